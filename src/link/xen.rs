//! Follows what Xen's store says of the guests' interfaces.
//!
//! Only paths that guests can't write are read, and none of those that they can is watched: the
//! backend's `/local/domain/0/backend/vif/<domain>/<device>/mac`, `/local/domain/<domain>/vm`, and
//! xapi's `/xapi/<vm>/private/vif/<device>/mac` where the backend has no MAC. The frontend's copy of
//! the MAC (`/local/domain/<domain>/device/vif/<device>/mac`) is the guest's to write.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch::{Receiver, Sender, channel},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::xenstore::Xenstore;
use crate::model::{Domain, Mac, Reading, VmUuid, XenFacts, XenNic, XenStore};

type Nics = BTreeMap<XenNic, XenFacts>;

const BACKEND: &str = "/local/domain/0/backend/vif";

/// Where toolstacks note which VM a domain is; it changes when one was migrated here.
const VMS: &str = "/vm";

/// How often everything is read although no watch said so.
const RESYNC: Duration = Duration::from_secs(60);

/// How soon, and how often, the rest is read of what was there by half.
const SOON: (Duration, u8) = (Duration::from_secs(1), 5);

/// The pauses between tries to reach the store: from, to.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Reads the store and follows it until nobody listens. What was read stays known while the store
/// can't be reached.
pub(super) async fn start(socket: PathBuf) -> Receiver<Arc<XenStore>> {
    let state = XenStore {
        reading: Reading::Failed("Xen's store was not read yet".to_owned()),
        ..XenStore::default()
    };
    let (publish, store) = channel(Arc::new(state.clone()));
    let mut follower = Follower {
        socket,
        state,
        publish,
    };
    // The first reading is waited for: the NICs of a host that boots are bound once, not twice.
    let connected = follower.connect().await;
    tokio::spawn(follower.run(connected));
    store
}

struct Follower {
    socket: PathBuf,
    state: XenStore,
    publish: Sender<Arc<XenStore>>,
}

impl Follower {
    async fn run(mut self, connected: io::Result<Xenstore>) {
        let mut connected = connected;
        let mut pause = RETRY.0;
        loop {
            let error = match connected {
                Ok(mut store) => {
                    pause = RETRY.0;
                    match self.follow(&mut store).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let text = format!(
                "cannot read Xen's store at {}: {error}",
                self.socket.display()
            );
            let failed = Reading::Failed(text);
            if self.state.reading != failed {
                warn!(%error, "Xen's store can't be read; what is known of it stays in force");
            }
            self.state.reading = failed;
            self.publish();
            sleep(pause).await;
            pause = RETRY.1.min(pause * 2);
            if self.publish.is_closed() {
                return;
            }
            connected = self.connect().await;
        }
    }

    /// Watches first, then reads: no change falls between.
    async fn connect(&mut self) -> io::Result<Xenstore> {
        let mut store = Xenstore::connect(&self.socket).await?;
        store.watch(BACKEND).await?;
        store.watch(VMS).await?;
        let nics = read_all(&mut store).await?;
        info!(nics = nics.len(), "read Xen's store");
        self.take(nics);
        Ok(store)
    }

    /// Until nobody listens.
    async fn follow(&mut self, store: &mut Xenstore) -> io::Result<()> {
        let (mut read, mut tries) = (Instant::now(), 0);
        loop {
            let unknown = self.state.nics.values().any(|facts| facts.vm.is_none());
            let again = unknown && tries < SOON.1;
            let longest = if again { SOON.0 } else { RESYNC };
            let mut next = store.changed(longest).await?;
            tries = if next.is_none() {
                tries.saturating_add(1)
            } else {
                0
            };
            if self.publish.is_closed() {
                return Ok(());
            }
            let mut changed = BTreeSet::new();
            if next.is_none() || read.elapsed() > RESYNC {
                changed.insert(Changed::Everything);
                read = Instant::now();
            }
            while let Some(path) = next {
                changed.insert(Changed::of(&path));
                next = store.known_change();
            }
            let mut nics = self.state.nics.clone();
            for one in changed {
                read_again(store, one, &mut nics).await?;
            }
            self.take(nics);
        }
    }

    fn take(&mut self, nics: Nics) {
        let reading = Reading::Good;
        self.state = XenStore { nics, reading };
        self.publish();
    }

    fn publish(&self) {
        self.publish.send_if_modified(|published| {
            let differs = **published != self.state;
            if differs {
                *published = Arc::new(self.state.clone());
            }
            differs
        });
    }
}

async fn read_again(store: &mut Xenstore, changed: Changed, nics: &mut Nics) -> io::Result<()> {
    match changed {
        Changed::Everything => *nics = read_all(store).await?,
        Changed::Domain(domain) => {
            nics.retain(|nic, _| nic.domain != domain);
            read_domain(store, domain, nics).await?;
        }
        Changed::Nic(nic) => read_nic(store, nic, nics).await?,
        Changed::Nothing => {}
    }
    Ok(())
}

async fn read_all(store: &mut Xenstore) -> io::Result<Nics> {
    let mut nics = Nics::new();
    for domain in numbers(store.directory(BACKEND).await?) {
        if let Ok(domain) = Domain::try_from(domain) {
            read_domain(store, domain, &mut nics).await?;
        }
    }
    Ok(nics)
}

async fn read_domain(store: &mut Xenstore, domain: Domain, nics: &mut Nics) -> io::Result<()> {
    let devices = store.directory(&format!("{BACKEND}/{domain}")).await?;
    for device in numbers(devices) {
        read_nic(store, XenNic { domain, device }, nics).await?;
    }
    Ok(())
}

async fn read_nic(store: &mut Xenstore, nic: XenNic, nics: &mut Nics) -> io::Result<()> {
    let XenNic { domain, device } = nic;
    let backend = format!("{BACKEND}/{domain}/{device}");
    let path = store.read(&format!("/local/domain/{domain}/vm")).await?;
    // `/vm/<uuid>`; some toolstacks add a number.
    let uuid = path.as_deref().and_then(|path| path.strip_prefix("/vm/"));
    let vm: Option<VmUuid> = uuid.and_then(|uuid| uuid.get(..36)?.parse().ok());
    let mut mac = store.read(&format!("{backend}/mac")).await?;
    if let (None, Some(vm)) = (&mac, vm)
        && store.read(&backend).await?.is_some()
    {
        let path = format!("/xapi/{vm}/private/vif/{device}/mac");
        mac = store.read(&path).await?;
    }
    nics.remove(&nic);
    match mac.map(|mac| mac.trim().parse::<Mac>()) {
        Some(Ok(mac)) => {
            nics.insert(nic, XenFacts { mac, vm });
        }
        Some(Err(error)) => warn!(%nic, %error, "Xen's store has no MAC of a guest's interface"),
        None => {}
    }
    Ok(())
}

/// What a changed path is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    Nic(XenNic),
    Domain(Domain),
    Everything,
}

impl Changed {
    fn of(path: &str) -> Self {
        let Some(below) = path.strip_prefix(BACKEND) else {
            // A VM; whose NICs are its own is read of all.
            return Self::Everything;
        };
        let mut parts = below.split('/').skip(1);
        let domain = parts.next().and_then(|part| part.parse::<u32>().ok());
        let device = parts.next().map(str::parse);
        match (domain.map(Domain::try_from), device) {
            (None, None) => Self::Everything,
            (Some(Ok(domain)), None) => Self::Domain(domain),
            (Some(Ok(domain)), Some(Ok(device))) => Self::Nic(XenNic { domain, device }),
            _ => Self::Nothing,
        }
    }
}

fn numbers(names: Vec<String>) -> impl Iterator<Item = u32> {
    names.into_iter().filter_map(|name| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_what_to_read_again() {
        let nic = |device| {
            let domain = Domain::try_from(7).unwrap();
            Changed::Nic(XenNic { domain, device })
        };
        for (path, changed) in [
            ("/local/domain/0/backend/vif", Changed::Everything),
            (
                "/local/domain/0/backend/vif/7",
                Changed::Domain(Domain::try_from(7).unwrap()),
            ),
            ("/local/domain/0/backend/vif/7/0", nic(0)),
            ("/local/domain/0/backend/vif/7/12/mac", nic(12)),
            ("/local/domain/0/backend/vif/0/0/mac", Changed::Nothing),
            ("/local/domain/0/backend/vif/x/0", Changed::Nothing),
            (
                "/vm/0a1b2c3d-0000-4fff-8000-00000000abcd/name",
                Changed::Everything,
            ),
        ] {
            assert_eq!(Changed::of(path), changed, "{path}");
        }
    }
}
