//! Before any handler: whether the caller may make this call.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use tokio::{sync::watch, time::Instant};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

use super::tls::Tls;
use crate::access::{Caller, Role};

/// How long a certificate counts as good without another look at it: it may have run out.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// The methods that change nothing. All others need [`Role::Push`].
const READING: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/sgagent.v1.SecurityGroupAgent/Diagnose",
    "/sgagent.v1.SecurityGroupAgent/Explain",
    "/sgagent.v1.SecurityGroupAgent/GetGroup",
    "/sgagent.v1.SecurityGroupAgent/GetNic",
    "/sgagent.v1.SecurityGroupAgent/GetRuleset",
    "/sgagent.v1.SecurityGroupAgent/GetStatus",
    "/sgagent.v1.SecurityGroupAgent/ListDrops",
    "/sgagent.v1.SecurityGroupAgent/ListGroups",
    "/sgagent.v1.SecurityGroupAgent/ListMembers",
    "/sgagent.v1.SecurityGroupAgent/ListNics",
    "/sgagent.v1.SecurityGroupAgent/ListTraffic",
    "/sgagent.v1.SecurityGroupAgent/WatchDrops",
    "/sgagent.v1.SecurityGroupAgent/WatchEvents",
];

/// The least that a caller of this method has to be.
fn needed(path: &str) -> Role {
    if READING.contains(&path) {
        Role::Inspect
    } else {
        Role::Push
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) caller: Arc<Caller>,
    pub(super) role: Option<Role>,
    /// Over TCP.
    pub(super) certificate: Option<Certificate>,
}

/// What a peer has shown, and when it was last found good.
#[derive(Clone)]
pub(super) struct Certificate {
    tls: Arc<Tls>,
    chain: Arc<[CertificateDer<'static>]>,
    /// By what was loaded then.
    good: Arc<watch::Sender<(u64, Instant)>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// One that a handshake has just found good, by what was loaded then.
    pub(super) fn new(tls: Arc<Tls>, chain: Vec<CertificateDer<'static>>, number: u64) -> Self {
        Self {
            tls,
            chain: chain.into(),
            good: Arc::new(watch::Sender::new((number, Instant::now()))),
        }
    }

    /// A connection outlives what its certificate is worth: that is looked at again when
    /// authorities or lists have changed, and now and then.
    fn check(&self) -> Result<(), Status> {
        let loaded = self.tls.current();
        let (number, when) = *self.good.borrow();
        if number == loaded.number && when.elapsed() < GOOD_FOR {
            return Ok(());
        }
        loaded
            .verify(&self.chain)
            .map_err(|error| Status::unauthenticated(format!("the certificate: {error}")))?;
        self.good.send_replace((loaded.number, Instant::now()));
        Ok(())
    }
}

fn admit<B>(request: &Request<B>) -> Result<(), Status> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Status::unauthenticated("nobody knows who calls"));
    };
    if let Some(certificate) = &peer.certificate {
        certificate.check()?;
    }
    let (path, needed) = (request.uri().path(), needed(request.uri().path()));
    let caller = &peer.caller;
    match peer.role {
        Some(role) if role >= needed => Ok(()),
        Some(role) => Err(Status::permission_denied(format!(
            "{path} needs the role {needed}; {caller} has {role}"
        ))),
        None => Err(Status::permission_denied(format!(
            "{caller} is none of the configuration's `clients`"
        ))),
    }
}

/// Asks before each call.
#[derive(Debug, Clone, Copy)]
pub(super) struct GateLayer;

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner }
    }
}

/// A service that not everybody may call.
#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match admit(&request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => {
                tracing::debug!(%status, "a call is refused");
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}

/// How many connections there may be, together and of one caller.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    most: usize,
    most_of_one: usize,
    here: Arc<watch::Sender<BTreeMap<String, usize>>>,
}

/// A place in the crowd, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    caller: String,
}

impl Crowd {
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            here: Arc::new(watch::Sender::default()),
        }
    }

    /// A place for one more connection of a caller; nothing where there is none.
    pub(super) fn enter(&self, caller: &Caller) -> Option<Place> {
        let caller = caller.to_string();
        let entered = self.here.send_if_modified(|here| {
            let own = here.get(&caller).copied().unwrap_or(0);
            let room = own < self.most_of_one && here.values().sum::<usize>() < self.most;
            if room {
                here.insert(caller.clone(), own + 1);
            }
            room
        });
        entered.then(|| Place {
            crowd: self.clone(),
            caller,
        })
    }

    fn leave(&self, caller: &str) {
        self.here.send_modify(|here| {
            let own = here.remove(caller).unwrap_or(0);
            if own > 1 {
                here.insert(caller.to_owned(), own - 1);
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.leave(&self.caller);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;

    /// Nobody adds a method without saying what it does.
    #[test]
    fn every_method_reads_or_is_known_to_change() {
        const CHANGING: &[&str] = &[
            "/sgagent.v1.SecurityGroupAgent/AdoptBridge",
            "/sgagent.v1.SecurityGroupAgent/Apply",
            "/sgagent.v1.SecurityGroupAgent/Sync",
        ];
        let pool = DescriptorPool::decode(crate::pb::DESCRIPTORS).unwrap();
        let methods = pool.services().flat_map(|service| {
            let name = service.full_name().to_owned();
            let path =
                move |method: prost_reflect::MethodDescriptor| format!("/{name}/{}", method.name());
            service.methods().map(path).collect::<Vec<_>>()
        });
        let methods: BTreeSet<String> = methods.collect();
        assert!(methods.len() > 10);
        for method in &methods {
            let reads = needed(method) == Role::Inspect;
            assert_ne!(reads, CHANGING.contains(&method.as_str()), "{method}");
        }
        let known = READING.iter().filter(|path| path.starts_with("/sgagent"));
        for path in known {
            assert!(methods.contains(*path), "{path}");
        }
    }

    #[test]
    fn one_caller_does_not_take_every_place() {
        let crowd = Crowd::new(3, 2);
        let one = Caller::Certified(BTreeSet::from(["a".to_owned()]));
        let other = Caller::Certified(BTreeSet::from(["b".to_owned()]));
        let first = crowd.enter(&one).unwrap();
        let _second = crowd.enter(&one).unwrap();
        assert!(crowd.enter(&one).is_none());
        let _third = crowd.enter(&other).unwrap();
        assert!(crowd.enter(&other).is_none(), "all places are taken");
        drop(first);
        let _again = crowd.enter(&other).unwrap();
    }
}
