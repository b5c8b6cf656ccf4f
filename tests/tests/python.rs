//! Python's own clients.

use std::process::Command;

use gimmal::{App, BodyError, Json, Request, StatusCode};
use gimmal_tests::{BACKENDS, server, start};

async fn echo(
    mut request: Request,
) -> Result<(StatusCode, [(gimmal::HeaderName, gimmal::HeaderValue); 1], gimmal::Bytes), BodyError> {
    let coding = request.header("transfer-encoding").unwrap_or("none").to_owned();
    let coding = gimmal::HeaderValue::try_from(coding).expect("it was a value before");
    Ok((StatusCode::CREATED, [(gimmal::HeaderName::from_static("x-coding"), coding)], request.bytes().await?))
}

fn app() -> App {
    App::new()
        .get("/", async || "Hello, World!")
        .get("/json", async || Json(vec![1, 2, 3]))
        .post("/echo", echo)
        .get("/port", async |request: Request| match request.peer_addr().await {
            Ok(gimmal::Address::Tcp(peer)) => peer.port().to_string(),
            _ => "none".to_owned(),
        })
}

const SCRIPT: &str = r#"
import http.client, json, sys, urllib.error, urllib.request
host, port = sys.argv[1].split(":")
url = "http://%s:%s" % (host, port)

# One connection for all of it.
connection = http.client.HTTPConnection(host, int(port), timeout=20)
ports = set()
for _ in range(20):
    connection.request("GET", "/port")
    response = connection.getresponse()
    assert response.status == 200 and response.version == 11, response.status
    ports.add(response.read())
assert len(ports) == 1, ports
connection.request("HEAD", "/")
response = connection.getresponse()
assert response.getheader("content-length") == "13" and response.read() == b""
connection.request("GET", "/nowhere")
response = connection.getresponse()
assert response.status == 404 and response.read() == b"Not Found"
body = bytes(index % 251 for index in range(300_000))
connection.request("POST", "/echo", body)
response = connection.getresponse()
assert response.status == 201 and response.getheader("x-coding") == "none"
assert response.read() == body
# An iterable without a length goes in chunks.
connection.request("POST", "/echo", (body[at:at + 7_001] for at in range(0, len(body), 7_001)), encode_chunked=True)
response = connection.getresponse()
assert response.status == 201 and response.getheader("x-coding") == "chunked"
assert response.read() == body
connection.request("OPTIONS", "/echo")
response = connection.getresponse()
assert response.getheader("allow") == "POST, OPTIONS", response.getheader("allow")
response.read()
connection.request("GET", "/port")
assert {connection.getresponse().read()} == ports
connection.close()

with urllib.request.urlopen(url + "/json", timeout=20) as response:
    assert response.headers["content-type"] == "application/json"
    assert json.load(response) == [1, 2, 3]
with urllib.request.urlopen(url + "/echo", data=b"a=1", timeout=20) as response:
    assert response.status == 201 and response.read() == b"a=1"
try:
    urllib.request.urlopen(url + "/nowhere", timeout=20)
    raise AssertionError("a 404 is an error")
except urllib.error.HTTPError as error:
    assert error.code == 404 and error.read() == b"Not Found"
print("all of it")
"#;

#[test]
fn http_client_and_urllib() {
    for backend in BACKENDS {
        let server = start(server(app(), backend));
        let python = Command::new("python3").args(["-c", SCRIPT, &server.address().to_string()]).output();
        let python = python.expect("python3 is installed: this test needs it");
        assert!(python.status.success(), "{backend:?}: {}", String::from_utf8_lossy(&python.stderr));
        assert_eq!(python.stdout, b"all of it\n");
    }
}
