//! TLS towards an agent: what the client shows, and whom it believes.

use std::{
    io::{self, Cursor},
    path::PathBuf,
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::TLS13,
    },
};

/// The files that make a client of an agent, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The authorities that have signed agents' certificates.
    pub cacert: PathBuf,
    /// The certificate to show, and those that lead to its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The way to one agent.
#[derive(Clone)]
pub(super) struct Tls {
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Tls {
    /// Reads the files. Says what is wrong with which.
    pub(super) fn new(address: &str, credentials: &Credentials) -> Result<Self, String> {
        let Credentials { cacert, cert, key } = credentials;
        let mut roots = RootCertStore::empty();
        for authority in certificates(cacert)? {
            roots
                .add(authority)
                .map_err(|error| format!("{}: {error}", cacert.display()))?;
        }
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| format!("{}: {error}", key.display()))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(cert)?, private)
            .map_err(|error| format!("{}: {error}", cert.display()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| format!("{address}: {error}"))?;
        Ok(Self {
            address: address.to_owned(),
            name,
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Connects, and waits for the first that the agent says: with TLS 1.3 it looks at the
    /// certificate when this side has done all of its part, and says what it does not like of it
    /// (RFC 8446 §2) in place of HTTP/2's SETTINGS (RFC 9113 §3.4).
    pub(super) async fn connect(self) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin> {
        let stream = TcpStream::connect(&self.address).await?;
        // Without it small requests wait for acknowledgements.
        let _ = stream.set_nodelay(true);
        let stream = self.connector.connect(self.name, stream).await?;
        let (mut read, write) = tokio::io::split(stream);
        let mut first = [0; 64];
        let said = match read.read(&mut first).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            said => said?,
        };
        if said == 0 {
            let why = "the agent closed the connection: too many, or too many of this client?";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        let first = first.get(..said).unwrap_or_default().to_vec();
        Ok(join(Cursor::new(first).chain(read), write))
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|error| format!("{}: {error}", path.display()))?;
    if all.is_empty() {
        return Err(format!("{}: there is no certificate in it", path.display()));
    }
    Ok(all)
}
