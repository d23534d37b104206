//! Mutual TLS from files: 1.3 only (RFC 8446), by ring. Files that change are taken without a
//! restart; those that make no sense are told of, and what was loaded before stays.

use std::{
    collections::BTreeSet,
    fmt,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime,
        pem::{Error as PemError, PemObject},
    },
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    version::TLS13,
};
use tracing::{info, warn};

use crate::access::TlsFiles;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, can't be read, or is no PEM.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PemError,
    },
    /// A file has nothing of what it is for.
    #[error("{path}: there is no {what} in it", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// A file holds what is no certificate, or is of no use.
    #[error("{path}: {source}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The lists of what was revoked, or the authorities, are of no use.
    #[error("client_ca and client_crls: {0}")]
    Clients(#[from] VerifierBuilderError),
    /// This TLS library can't do what is asked of it.
    #[error(transparent)]
    Library(#[from] rustls::Error),
}

/// What was in the files.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// Counts the times that they were loaded.
    pub(super) number: u64,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({})", self.number)
    }
}

impl Loaded {
    /// Whether a certificate that was good when its connection began still is.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some((own, others)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let verified = self
            .verifier
            .verify_client_cert(own, others, UnixTime::now());
        verified.map(drop)
    }
}

/// The files and what was last in them.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: watch::Sender<Loaded>,
}

impl Tls {
    /// Reads the files, and again whenever one of them has changed.
    pub fn start(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let seen = stamps(&files);
        let (current, _) = watch::channel(read(&files, 0)?);
        let tls = Arc::new(Self { files, current });
        tokio::spawn(follow(Arc::downgrade(&tls), seen));
        Ok(tls)
    }

    pub(super) fn current(&self) -> Loaded {
        self.current.borrow().clone()
    }

    fn read_again(&self) {
        match read(&self.files, self.current().number + 1) {
            Ok(loaded) => {
                self.current.send_replace(loaded);
                info!("certificates were read again");
            }
            // One may be half written: the next change is another try.
            Err(error) => warn!(%error, "changed certificates can't be used; the old ones stay"),
        }
    }
}

/// Looks at the files for as long as somebody wants to know.
async fn follow(tls: Weak<Tls>, mut seen: Vec<Option<Stamp>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(tls) = tls.upgrade() else {
            return;
        };
        let stamps = stamps(&tls.files);
        if stamps != seen {
            seen = stamps;
            tls.read_again();
        }
    }
}

/// By what a changed file is known: when it was changed, its length, and which file it is.
type Stamp = (SystemTime, u64, u64);

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len(), file.ino()))
    };
    files.all().map(stamp).collect()
}

fn read(files: &TlsFiles, number: u64) -> Result<Loaded, TlsError> {
    let provider = Arc::new(default_provider());
    let chain: Vec<CertificateDer<'static>> = all(&files.certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(file(&files.key))?;
    let mut roots = RootCertStore::empty();
    for authority in all(&files.client_ca, "certificate")? {
        roots.add(authority).map_err(|source| TlsError::Unusable {
            path: files.client_ca.clone(),
            source,
        })?;
    }
    let mut lists: Vec<CertificateRevocationListDer<'static>> = Vec::new();
    for path in &files.client_crls {
        lists.extend(all(path, "list of revoked certificates")?);
    }
    let mut verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    if !lists.is_empty() {
        // Of an authority without a list, nothing is revoked.
        verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
    }
    let verifier = verifier.build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Unusable {
            path: files.certificate.clone(),
            source,
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Who resumes a session is not asked for a certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded {
        config: Arc::new(config),
        verifier,
        number,
    })
}

fn file(path: &Path) -> impl Fn(PemError) -> TlsError {
    move |source| TlsError::File {
        path: path.to_owned(),
        source,
    }
}

/// Every one of a kind that a file has; at least one.
fn all<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let items: Result<Vec<T>, _> = T::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(file(path));
    let items = items?;
    if items.is_empty() {
        let path = path.to_owned();
        return Err(TlsError::Empty { path, what });
    }
    Ok(items)
}

/// The DNS names and URIs of a certificate (RFC 5280 §4.2.1.6).
pub(super) fn names(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return BTreeSet::new();
    };
    let dns = certificate.valid_dns_names();
    let all = dns.chain(certificate.valid_uri_names());
    all.map(str::to_owned).collect()
}
