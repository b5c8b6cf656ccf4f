//! Passwords that everyone tries first.

/// Passwords, and words of which passwords are made, that head every list of what was found in breaches: in lower
/// case and in order. A service whose users are worth a longer list hands it to
/// [`PasswordPolicy::with_blocked`](super::PasswordPolicy::with_blocked).
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "00000000", "01011990", "01012000", "0123456789", "0987654321", "10203040", "102030405060", "11111111",
    "11223344", "1122334455", "112233445566", "12121212", "123123123", "12341234", "12344321", "123454321",
    "12345678", "123456789", "1234567890", "123456789a", "123456789q", "12345678a", "123456abc",
    "123456qwerty", "12345qwert", "1234qwer", "123654789", "123abc", "123qwe123", "123qweasd", "13579246",
    "147258369", "147852369", "159753456", "19901990", "1a2b3c4d", "1q2w3e", "1q2w3e4r", "1q2w3e4r5t",
    "1q2w3e4r5t6y", "1qaz2wsx", "1qazxsw2", "20202020", "22222222", "31415926", "314159265", "456789123",
    "55555555", "66666666", "741852963", "77777777", "789456123", "87654321", "88888888", "987654321",
    "9876543210", "99999999", "a12345678", "a123456789", "a1b2c3d4", "a1s2d3f4", "aa123456", "aa12345678",
    "abc123", "abc12345", "abc@1234", "abcabc", "abcd1234", "abcdef", "abcdefg", "abcdefgh", "access",
    "access14", "account", "admin", "admin123", "admin1234", "admin12345", "admin@123", "adminadmin",
    "administrator", "administrator1", "alexander", "alexandra", "amanda", "america", "andrew", "android",
    "angel", "angels", "anthony", "anything", "apple", "argentina", "arsenal", "asd123456", "asdf",
    "asdf1234", "asdfasdf", "asdfghjk", "asdfghjkl", "asdfjkl", "ashley", "asshole", "august", "australia",
    "autumn", "azerty", "azertyui", "azertyuiop", "baby", "babyboy", "babygirl", "banana", "bangladesh",
    "barcelona", "baseball", "baseball1", "basketball", "batman", "beatles", "benjamin", "bestfriend",
    "bigdick", "birthday", "blessed", "blessing", "blossom", "blueberry", "boston", "brasil", "brother",
    "bulldog", "bullshit", "butter", "butterfly", "camaro", "canada", "champion", "changeit", "changeme",
    "changemenow", "charles", "charlie", "charlie1", "cheese", "cheetah", "chelsea", "chevrolet", "chevy",
    "chicago", "chicken", "chocolate", "christian", "christmas", "christopher", "cisco", "cloud", "coffee",
    "colombia", "computer", "computer1", "contraseña", "cookie", "cookies", "correcthorsebatterystaple",
    "corvette", "cowboys", "daddy", "daniel", "darling", "darthvader", "database", "davidson", "december",
    "default", "demo", "demodemo", "deutschland", "docker", "dolphin", "dolphins", "donald", "dragon",
    "dragon123", "dragonball", "eagles", "elephant", "elizabeth", "email", "eminem", "england", "espana",
    "everything", "example", "facebook", "faith", "family", "father", "february", "ferrari", "flower",
    "flowers", "football", "football1", "football123", "forever", "forever21", "france", "francesca",
    "freedom", "friday", "friend", "friends", "fuckoff", "fuckyou", "fuckyou1", "gabriel", "gandalf",
    "garfield", "george", "germany", "ginger", "giovanni", "godisgood", "goodbye", "google", "grafana",
    "guest", "guestguest", "guitar", "halloween", "hannah", "harley", "harrypotter", "haslo", "heaven",
    "hello", "hellohello", "helloworld", "helpdesk", "hockey", "holiday", "honda", "honey", "hope",
    "hostmaster", "hunter", "iamthebest", "ilovegod", "ilovejesus", "iloveme", "iloveyou", "iloveyou1",
    "iloveyou2", "iloveyouforever", "india", "indonesia", "instagram", "internet", "internet1", "iphone",
    "ireland", "ironman", "isabella", "january", "jboss", "jenkins", "jennifer", "jessica", "jesus",
    "jesuschrist", "jonathan", "jordan", "jordan23", "joshua", "juventus", "kawasaki", "killer", "kitten",
    "knight", "kubernetes", "lakers", "lamborghini", "legend", "leopard", "letmein", "letmein!", "letmein1",
    "letmein123", "letmeinnow", "linkedin", "linux", "liverpool", "liverpool1", "login", "loginlogin",
    "london", "loremipsum", "loremipsumdolor", "lovelove", "lovely", "loveme", "lover", "loveyou", "lucky",
    "madison", "madonna", "mailmail", "manager", "manchester", "manchesterunited", "mariadb", "master",
    "master123", "matthew", "maytheforcebewithyou", "mercedes", "metal", "metallica", "mexico", "michael",
    "michael1", "michelle", "mickey", "microsoft", "minecraft", "mommy", "monday", "money", "mongodb",
    "monkey", "monkey123", "motdepasse", "mother", "motherfucker", "mouse", "music", "mustang", "mylove",
    "mypassword", "mysecret", "mysql", "naruto", "network", "newpassword", "newyork", "nicholas", "nicole",
    "ninja", "nintendo", "nirvana", "nissan", "nopassword", "nothing", "november", "october", "oldpassword",
    "onceuponatime", "opensesame", "openup", "operator", "oracle", "orange", "p@ssw0rd", "p@ssw0rd1",
    "p@ssw0rd123", "p@ssword", "pa$$word", "packers", "pakistan", "pandora", "panther", "parola", "parole",
    "pass@123", "pass@1234", "passcode", "passord", "passpass", "passphrase", "passw0rd", "passw0rd1",
    "password", "password!", "password1", "password12", "password123", "password1234", "password12345",
    "password123456", "password2", "password@123", "passwort", "patrick", "peanut", "penguin", "pepper",
    "philippines", "phoenix", "pikachu", "pineapple", "pirate", "playstation", "pokemon", "porsche",
    "portugal", "postgres", "postmaster", "princess", "princess1", "puppy", "q123456789", "q1w2e3r4",
    "q1w2e3r4t5", "qazwsx", "qazwsxedc", "qazxsw", "qwe12345", "qwe123qwe", "qweasd", "qweasdzxc", "qweqwe",
    "qwerasdf", "qwerty", "qwerty1", "qwerty12", "qwerty123", "qwerty1234", "qwerty12345", "qwerty123456",
    "qwertyui", "qwertyuiop", "qwertz", "qwertzui", "qwertzuiop", "rabbit", "rainbow", "rangers", "raspberry",
    "realmadrid", "richard", "robert", "rockstar", "root", "root1234", "rootroot", "salasana", "samantha",
    "sample", "samsung", "samsung1", "samurai", "saturday", "scooby", "scotland", "sebastian", "secret",
    "secretpassword", "security", "senha", "september", "server", "service", "shadow", "shadow123",
    "shithead", "sifre", "signin", "sister", "skywalker", "slipknot", "snoopy", "soccer", "softball",
    "something", "spiderman", "spring", "startrek", "starwars", "steelers", "stephanie", "strawberry",
    "subaru", "success", "summer", "sunday", "sunflower", "sunshine", "sunshine1", "superadmin", "superman",
    "superman1", "supersecret", "superuser", "support", "suzuki", "sweetheart", "sweety", "sysadmin",
    "system", "temp", "temporary", "test", "test1234", "test12345", "tester", "testing", "testtest",
    "testuser", "thepassword", "thequickbrownfox", "thequickbrownfoxjumpsoverthelazydog", "thomas", "tiger",
    "tigger", "tobeornottobe", "tomcat", "toor", "topsecret", "toyota", "truelove", "trustno1", "turtle",
    "twitter", "ubuntu", "user", "user1234", "username", "useruser", "veronica", "victoria", "volkswagen",
    "volleyball", "wachtwoord", "warrior", "weblogic", "webmail", "webmaster", "weekend", "welcome",
    "welcome!", "welcome1", "welcome12", "welcome123", "welcome2", "welcome@123", "welcomeback",
    "welcomehome", "whatever", "william", "windows", "winner", "winter", "wizard", "wolverine", "xbox",
    "yamaha", "yankees", "youarethebest", "yourpassword", "youtube", "zaq12wsx", "zaq1xsw2", "zxcvbnm",
    "zxcvbnm1",
];

/// Whether `word`, in lower case, is one of them.
pub(super) fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_in_lower_case() {
        assert!(COMMON.is_sorted_by(|one, next| one < next));
        for word in COMMON {
            assert_eq!(word.to_lowercase(), *word);
            assert!(is_common(word));
        }
    }
}
