//! Where the API is listened for.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::tls::Tls;

/// Owner and group, nobody else.
const SOCKET_MODE: u32 = 0o660;

/// Owner only.
const PRIVATE_MODE: u32 = 0o700;

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error("socket {}: another process answers on it", .0.display())]
    InUse(PathBuf),
    /// Something else is there, which is not ours to remove.
    #[error("socket {}: there is a file of this name that is no socket", .0.display())]
    NotASocket(PathBuf),
    /// The path has no file name.
    #[error("socket {}: the path does not end in a file name", .0.display())]
    NoName(PathBuf),
    /// The system refused.
    #[error("socket {}: cannot {what}: {source}", path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused.
    #[error("address {address}: cannot listen: {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// An open listener.
#[derive(Debug)]
pub enum Listener {
    /// On a unix socket.
    Unix(UnixListener),
    /// On a TCP port, with mutual TLS.
    Tcp(TcpListener, Arc<Tls>),
}

impl Listener {
    /// Listens on a unix socket of mode 0660. The directory must exist. A socket that is
    /// left over from a process that is gone is replaced.
    ///
    /// The socket is made in a directory that only its owner can enter, is given its
    /// mode, and is then moved to its place: at no moment is it more open than that,
    /// whatever the umask, which belongs to the whole process and is not touched.
    pub async fn unix(path: &Path) -> Result<Self, ListenError> {
        let failed = |what| {
            move |source| ListenError::Unix {
                path: path.to_owned(),
                what,
                source,
            }
        };
        let name = path
            .file_name()
            .ok_or_else(|| ListenError::NoName(path.to_owned()))?;
        vacant(path).await?;
        let own = format!(".{}", std::process::id());
        let private = path.with_file_name(&own);
        // Left over only where a process of the same id died between two lines of this.
        let _ = fs::remove_dir_all(&private);
        fs::DirBuilder::new()
            .mode(PRIVATE_MODE)
            .create(&private)
            .map_err(failed("make a directory beside it"))?;
        let made = private.join(name);
        let listener = UnixListener::bind(&made)
            .map_err(failed("bind"))
            .and_then(|listener| {
                fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE))
                    .map_err(failed("set its mode"))?;
                fs::rename(&made, path).map_err(failed("move it to its place"))?;
                Ok(listener)
            });
        fs::remove_dir_all(&private).map_err(failed("remove the directory beside it"))?;
        Ok(Self::Unix(listener?))
    }

    /// Listens on a TCP port, for who has a certificate.
    pub async fn tcp(address: SocketAddr, tls: Arc<Tls>) -> Result<Self, ListenError> {
        Ok(Self::Tcp(bind(address).await?, tls))
    }

    /// The address of a TCP listener, with the port that the system chose.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ListenError::Tcp { address, source })
}

/// Whether a socket can be put there: nothing is, or one that nobody answers on.
async fn vacant(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(ListenError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(ListenError::Unix {
                path: path.to_owned(),
                what: "look at it",
                source,
            });
        }
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Also one that can't be asked may be another process's.
        Ok(_) | Err(_) => Err(ListenError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let _listener = Listener::unix(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn only_a_socket_that_nobody_answers_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let first = Listener::unix(&path).await.unwrap();
        assert!(matches!(
            Listener::unix(&path).await,
            Err(ListenError::InUse(_))
        ));
        drop(first);
        assert!(path.exists());
        Listener::unix(&path).await.unwrap();

        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = Listener::unix(&file).await.unwrap_err();
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");

        let error = Listener::unix(&dir.path().join("none/a.sock"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("none/a.sock"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = bind("[::1]:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
