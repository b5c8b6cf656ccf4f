//! The configuration of TLS servers.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::{KeyLogFile, ServerConfig};

#[cfg(feature = "acme")]
use super::acme::{AcmeClient, AcmeConfig};
use super::certified_key::CertifiedKey;
use super::client_auth::{ClientAuth, LoadedClientAuth};
use super::config_error::TlsConfigError;
use super::provider::{provider, versions};
use super::resolver::{ACME_TLS, Challenges, Resolver};
use super::resumption::{CACHED_SESSIONS, Policy, SessionResumption};
use super::source::FileRevision;

/// How servers speak TLS. One value serves all cores; clones share everything.
///
/// TLS 1.3 and 1.2, X25519MLKEM768 first, `http/1.1` by ALPN, resumption by tickets that rotate and by a cache,
/// no 0-RTT, no client certificates; a client that asks for an unknown name is shown the first certificate.
///
/// ```no_run
/// use gimmal_security::tls::TlsServerConfig;
///
/// let tls = TlsServerConfig::from_pem_files("server.pem", "server.key")?;
/// // Later, from time to time, or when asked by a signal:
/// match tls.reload_if_changed() {
///     Ok(true) => println!("new certificates are in use"),
///     Ok(false) => {}
///     Err(error) => println!("the old certificates stay in use: {error}"),
/// }
/// # Ok::<(), gimmal_security::tls::TlsConfigError>(())
/// ```
#[derive(Clone)]
pub struct TlsServerConfig {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    challenges: Arc<Challenges>,
    /// Locked through a whole reload, so that reloads do not overtake each other.
    sources: Mutex<Sources>,
    /// Locked for the copying of a reference alone.
    loaded: RwLock<Arc<Loaded>>,
}

/// What stays as it was built.
struct Settings {
    strict_server_names: bool,
    alpn: Vec<Vec<u8>>,
    only_tls13: bool,
    resumption: SessionResumption,
    early_data_bytes_max: u32,
    key_log: bool,
    certificate_later: bool,
    client_auth: Option<ClientAuth>,
}

struct Sources {
    certificates: Vec<CertificateSource>,
    revisions: Vec<FileRevision>,
}

enum CertificateSource {
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
    Fixed(CertifiedKey),
    /// What an ACME server has issued, once it has.
    #[cfg(feature = "acme")]
    Acme(AcmeClient),
}

impl CertificateSource {
    fn load(&self) -> Result<Option<CertifiedKey>, TlsConfigError> {
        match self {
            Self::Files { chain, key } => CertifiedKey::from_pem_files(chain, key).map(Some),
            Self::Fixed(key) => Ok(Some(key.clone())),
            #[cfg(feature = "acme")]
            Self::Acme(client) => Ok(client.stored()?),
        }
    }

    /// The names that a certificate is issued for while the server runs.
    fn awaited_names(&self) -> &[String] {
        match self {
            Self::Files { .. } | Self::Fixed(_) => &[],
            #[cfg(feature = "acme")]
            Self::Acme(client) => client.names(),
        }
    }

    fn files(&self) -> [Option<&Path>; 2] {
        match self {
            Self::Files { chain, key } if chain == key => [Some(chain), None],
            Self::Files { chain, key } => [Some(chain), Some(key)],
            Self::Fixed(_) => [None, None],
            #[cfg(feature = "acme")]
            Self::Acme(client) => [Some(client.certificate_path()), None],
        }
    }
}

/// What is in use: new sessions take it as it is when they begin, and keep it.
pub(super) struct Loaded {
    pub(super) rustls: Arc<ServerConfig>,
    pub(super) keys: Vec<CertifiedKey>,
    /// The names that certificates are issued for while the server runs.
    pub(super) awaited_names: Vec<String>,
    pub(super) revocation_lists_end_at: Option<u64>,
}

impl Loaded {
    /// Whether an ACME server issues the next certificate in place of this one.
    pub(super) fn is_renewed(&self, key: &CertifiedKey) -> bool {
        let mut names = key.certificate().dns_names().peekable();
        names.peek().is_some() && names.all(|name| self.awaited_names.iter().any(|awaited| awaited == name))
    }
}

impl TlsServerConfig {
    /// A server with the certificate chain and the private key of two PEM files (or of one that holds both), and
    /// everything else by default.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file, and what to do.
    pub fn from_pem_files(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsConfigError> {
        Self::builder().pem_files(chain, key).build()
    }

    /// A server that **no client trusts**, with a certificate of its own making, for development only: see
    /// [`CertifiedKey::self_signed_for_development`].
    ///
    /// # Errors
    /// [`TlsConfigError::BadName`] for something that is no name.
    pub fn self_signed_for_development(names: &[&str]) -> Result<Self, TlsConfigError> {
        Self::builder().certificate(CertifiedKey::self_signed_for_development(names)?).build()
    }

    /// A server with a certificate from an ACME server such as Let's Encrypt, and everything else by default.
    ///
    /// A server of the framework that is bound with this obtains the certificate, and renews it in time. What is stored
    /// from an earlier run is used at once; where there is nothing, handshakes fail until one has been issued.
    ///
    /// ```no_run
    /// use gimmal_security::tls::TlsServerConfig;
    /// use gimmal_security::tls::acme::{AcmeConfig, LETS_ENCRYPT};
    ///
    /// let acme = AcmeConfig::new(LETS_ENCRYPT, &["example.org"], "/var/lib/site/acme")?
    ///     .contact("mailto:admin@example.org")
    ///     .agree_to_terms_of_service();
    /// let tls = TlsServerConfig::from_acme(acme)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`TlsConfigError::Acme`] if the terms of service are not agreed to, or the folder cannot be used; otherwise what
    /// is wrong with the certificate that is stored.
    #[cfg(feature = "acme")]
    pub fn from_acme(config: AcmeConfig) -> Result<Self, TlsConfigError> {
        Self::builder().acme(&AcmeClient::new(config)?).build()
    }

    /// A server to be configured in detail.
    pub fn builder() -> TlsServerConfigBuilder {
        TlsServerConfigBuilder::new()
    }

    /// Reads all files again: certificates, keys, client roots and revocation lists. Sessions that began before are
    /// left alone; those that begin after it use what was read.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file and what is wrong. Then everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsConfigError> {
        let mut sources = self.shared.sources();
        sources.revisions = revisions(&sources.certificates, &self.shared.settings);
        self.shared.load(&sources)
    }

    /// [`reload`](Self::reload)s if the content of a file has changed since it was last looked at, and tells whether
    /// it did. Costs one `stat` a file when nothing has changed; call it every few seconds, outside of a core.
    ///
    /// # Errors
    /// As `reload`. The same bad files are not tried, and told of, again: only their next change is.
    pub fn reload_if_changed(&self) -> Result<bool, TlsConfigError> {
        let mut sources = self.shared.sources();
        // All of them, not up to the first: each has to note what it has seen.
        let changed = sources.revisions.iter_mut().filter_map(|file| file.changed().then_some(())).count();
        if changed > 0 {
            self.shared.load(&sources)?;
        }
        Ok(changed > 0)
    }

    /// Puts a certificate to use at once, in place of the one given for the same names, or beside the others.
    ///
    /// # Errors
    /// [`TlsConfigError`] if, of the files that belong to the other certificates, one cannot be read. Then
    /// everything stays as it was.
    pub fn install(&self, key: CertifiedKey) -> Result<(), TlsConfigError> {
        let mut sources = self.shared.sources();
        let names = |key: &CertifiedKey| key.certificate().names().iter().cloned().collect::<HashSet<_>>();
        let same = sources.certificates.iter().position(|source| match source {
            CertificateSource::Fixed(old) => {
                names(old) == names(&key)
                    && old.certificate().key_algorithm() == key.certificate().key_algorithm()
            }
            _ => false,
        });
        let source = CertificateSource::Fixed(key);
        let (at, old) = match same {
            Some(at) => (at, Some(std::mem::replace(&mut sources.certificates[at], source))),
            None => {
                sources.certificates.push(source);
                (sources.certificates.len() - 1, None)
            }
        };
        self.shared.load(&sources).inspect_err(|_| match old {
            Some(old) => sources.certificates[at] = old,
            None => drop(sources.certificates.remove(at)),
        })
    }

    /// Answers TLS-ALPN-01 challenges for `name` with this certificate (RFC 8737 section 3), until
    /// [`remove_challenge`](Self::remove_challenge).
    pub fn insert_challenge(&self, name: &str, key: CertifiedKey) {
        self.shared.challenges.insert(name, key);
    }

    /// Answers challenges for `name` no more.
    pub fn remove_challenge(&self, name: &str) {
        self.shared.challenges.remove(name);
    }

    /// The certificates in use, in the order in which they were given.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertifiedKey> {
        self.shared.loaded().keys.clone()
    }

    /// When the first certificate in use ends to be valid, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> Option<u64> {
        self.shared.loaded().keys.iter().map(|key| key.certificate().not_after()).min()
    }

    /// Whether there is a certificate for this host, a DNS name or an address, or one is to be issued by an ACME server.
    #[must_use]
    pub fn is_for_host(&self, host: &str) -> bool {
        let loaded = self.shared.loaded();
        let bare = host.strip_suffix('.').unwrap_or(host);
        loaded.keys.iter().any(|key| key.certificate().is_for_host(host))
            || loaded.awaited_names.iter().any(|name| name.eq_ignore_ascii_case(bare))
    }

    /// Those who obtain certificates for this server.
    #[cfg(feature = "acme")]
    #[must_use]
    pub fn acme_clients(&self) -> Vec<AcmeClient> {
        let sources = self.shared.sources();
        let client = |source: &CertificateSource| match source {
            CertificateSource::Acme(client) => Some(client.clone()),
            _ => None,
        };
        sources.certificates.iter().filter_map(client).collect()
    }

    /// The files that are read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        files(&self.shared.sources().certificates, &self.shared.settings).map(Path::to_owned).collect()
    }

    pub(super) fn loaded(&self) -> Arc<Loaded> {
        self.shared.loaded()
    }

    pub(super) fn client_auth(&self) -> Option<&ClientAuth> {
        self.shared.settings.client_auth.as_ref()
    }

    pub(super) fn accepts_early_data(&self) -> bool {
        self.shared.settings.early_data_bytes_max > 0
    }

    pub(super) fn logs_keys(&self) -> bool {
        self.shared.settings.key_log
    }
}

impl fmt::Debug for TlsServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServerConfig")
            .field("certificates", &self.shared.loaded().keys)
            .field("client_auth", &self.shared.settings.client_auth)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn load(&self, sources: &Sources) -> Result<(), TlsConfigError> {
        let loaded = self.settings.load(&sources.certificates, &self.challenges)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }
}

fn files<'a>(
    certificates: &'a [CertificateSource],
    settings: &'a Settings,
) -> impl Iterator<Item = &'a Path> {
    let of_certificates = certificates.iter().flat_map(CertificateSource::files);
    of_certificates.flatten().chain(settings.client_auth.iter().flat_map(ClientAuth::files))
}

fn revisions(certificates: &[CertificateSource], settings: &Settings) -> Vec<FileRevision> {
    files(certificates, settings).map(FileRevision::of).collect()
}

impl Settings {
    fn load(
        &self,
        certificates: &[CertificateSource],
        challenges: &Arc<Challenges>,
    ) -> Result<Loaded, TlsConfigError> {
        let loaded = certificates.iter().filter_map(|source| source.load().transpose());
        let keys = loaded.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() && !self.certificate_later {
            return Err(TlsConfigError::NoCertificates);
        }
        let client_auth = self.client_auth.as_ref().map(ClientAuth::load).transpose()?;
        let rustls = self.rustls(&keys, client_auth.as_ref(), challenges)?;
        Ok(Loaded {
            rustls: Arc::new(rustls),
            keys,
            awaited_names: certificates.iter().flat_map(CertificateSource::awaited_names).cloned().collect(),
            revocation_lists_end_at: client_auth.and_then(|loaded| loaded.lists_end_at),
        })
    }

    fn rustls(
        &self,
        keys: &[CertifiedKey],
        client_auth: Option<&LoadedClientAuth>,
        challenges: &Arc<Challenges>,
    ) -> Result<ServerConfig, TlsConfigError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(self.only_tls13))?;
        let builder = match client_auth {
            Some(loaded) => builder.with_client_cert_verifier(Arc::clone(&loaded.verifier)),
            None => builder.with_no_client_auth(),
        };
        let resolver =
            Resolver::new(keys, self.strict_server_names, self.alpn.clone(), Arc::clone(challenges));
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols.clone_from(&self.alpn);

        let policy = client_auth.map_or(Policy([0; 16]), |loaded| loaded.policy);
        config.session_storage = self.resumption.cache(policy);
        if self.early_data_bytes_max == 0 {
            config.ticketer = self.resumption.tickets(policy);
        } else {
            // A ticket can be used twice, a cached session is gone with its first use: that is what keeps early data
            // from being taken twice (RFC 8446 section 8.1).
            config.max_early_data_size = self.early_data_bytes_max;
            config.send_half_rtt_data = true;
        }
        if self.key_log {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(config)
    }
}

/// Builds a [`TlsServerConfig`].
#[must_use]
pub struct TlsServerConfigBuilder {
    certificates: Vec<CertificateSource>,
    strict_server_names: bool,
    alpn: Vec<Vec<u8>>,
    challenges: bool,
    only_tls13: bool,
    resumption: Option<SessionResumption>,
    early_data_bytes_max: u32,
    key_log: bool,
    client_auth: Option<ClientAuth>,
}

impl TlsServerConfigBuilder {
    fn new() -> Self {
        Self {
            certificates: Vec::new(),
            strict_server_names: false,
            alpn: vec![b"http/1.1".to_vec()],
            challenges: false,
            only_tls13: false,
            resumption: None,
            early_data_bytes_max: 0,
            key_log: false,
            client_auth: None,
        }
    }

    /// Adds the certificate chain and the private key of two PEM files, or of one that holds both. They are read
    /// again on each [reload](TlsServerConfig::reload).
    ///
    /// Call it once for each certificate. Which one a client is shown is decided by the DNS names in it; with an
    /// RSA and an ECDSA certificate for the same names, RSA is for the clients that have nothing else. The first
    /// certificate is also the one for unknown names, unless [names are strict](Self::strict_server_names).
    pub fn pem_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificates.push(CertificateSource::Files { chain: chain.into(), key: key.into() });
        self
    }

    /// Adds a certificate that is in memory.
    pub fn certificate(mut self, key: CertifiedKey) -> Self {
        self.certificates.push(CertificateSource::Fixed(key));
        self
    }

    /// Adds the certificate of an ACME server: see [`TlsServerConfig::from_acme`]. Call it once for each certificate.
    /// One client may serve several configurations.
    #[cfg(feature = "acme")]
    pub fn acme(mut self, client: &AcmeClient) -> Self {
        self.certificates.push(CertificateSource::Acme(client.clone()));
        self.acme_challenges()
    }

    /// Refuses clients that ask for a name without a certificate, or for no name, with the alert
    /// `unrecognized_name`, instead of showing them the first certificate.
    pub fn strict_server_names(mut self) -> Self {
        self.strict_server_names = true;
        self
    }

    /// The application protocols spoken, the preferred first; `["http/1.1"]` by default. With an empty list ALPN is
    /// not spoken, which is right for protocols without a name (RFC 7301).
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Asks clients for certificates.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = Some(client_auth);
        self
    }

    /// Speaks TLS 1.3 alone.
    pub fn only_tls13(mut self) -> Self {
        self.only_tls13 = true;
        self
    }

    /// Shares ticket keys and cached sessions with other configurations. By default each has its own.
    pub fn resumption(mut self, resumption: SessionResumption) -> Self {
        self.resumption = Some(resumption);
        self
    }

    /// Takes up to `bytes_max` bytes of early data (0-RTT, RFC 8446 section 2.3) from a client that resumes.
    ///
    /// **Early data can be replayed** by who has recorded it, within limits that the single use of sessions sets on
    /// one machine and not across machines: act on it only where doing so twice is safe. The session tells
    /// [how much of what it received](super::Received::early_bytes) came early. Resumption goes by the cache alone
    /// then, since tickets can be used twice.
    pub fn dangerous_early_data(mut self, bytes_max: u32) -> Self {
        self.early_data_bytes_max = bytes_max;
        self
    }

    /// Writes the keys of all sessions to the file that the environment variable `SSLKEYLOGFILE` names, for
    /// Wireshark. **Whoever reads that file reads everything.**
    pub fn dangerous_key_log(mut self) -> Self {
        self.key_log = true;
        self
    }

    /// Answers TLS-ALPN-01 challenges of an ACME server (RFC 8737), see
    /// [`insert_challenge`](TlsServerConfig::insert_challenge), and allows a start without a certificate: until the
    /// first is [installed](TlsServerConfig::install), handshakes fail.
    pub fn acme_challenges(mut self) -> Self {
        self.challenges = true;
        self
    }

    /// Reads all files and checks everything.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file, and what to do.
    pub fn build(self) -> Result<TlsServerConfig, TlsConfigError> {
        if self.early_data_bytes_max > 0 && self.client_auth.is_some() {
            return Err(TlsConfigError::Conflict(
                "early data comes before the client's certificate can be checked: use one or the other",
            ));
        }
        let mut alpn = self.alpn;
        if self.challenges {
            alpn.push(ACME_TLS.to_vec());
        }
        let settings = Settings {
            strict_server_names: self.strict_server_names,
            alpn,
            only_tls13: self.only_tls13,
            resumption: self.resumption.map_or_else(|| SessionResumption::new(CACHED_SESSIONS), Ok)?,
            early_data_bytes_max: self.early_data_bytes_max,
            key_log: self.key_log,
            certificate_later: self.challenges,
            client_auth: self.client_auth,
        };
        let challenges = Arc::default();
        // Before the files are read: a change in between is seen as one later.
        let revisions = revisions(&self.certificates, &settings);
        let loaded = settings.load(&self.certificates, &challenges)?;
        Ok(TlsServerConfig {
            shared: Arc::new(Shared {
                settings,
                challenges,
                sources: Mutex::new(Sources { certificates: self.certificates, revisions }),
                loaded: RwLock::new(Arc::new(loaded)),
            }),
        })
    }
}

impl fmt::Debug for TlsServerConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServerConfigBuilder")
            .field("certificates", &self.certificates.len())
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}
