//! The streams that go on until the client, or the server, ends them.
//!
//! Each pulls its next message when the last one is on its way: a client that never reads holds
//! one, and misses the rest.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::Status;

use super::convert::{self, WantedDrops};
use crate::{
    agent::{DropNews, DropWatcher, Event, EventNews, EventWatch},
    model::NicId,
    pb,
};

/// The messages of an answer that is a stream.
pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// For how long the server works: until the sender is gone.
pub(super) type Working = watch::Receiver<()>;

async fn stopped(working: &mut Working) {
    while working.changed().await.is_ok() {}
}

/// What is dropped, as far as it is wanted.
pub(super) fn drops(
    watcher: DropWatcher,
    working: Working,
    wanted: WantedDrops,
) -> Messages<pb::WatchDropsResponse> {
    let news = stream::unfold((watcher, working), async |(mut watcher, mut working)| {
        let news: Option<DropNews> = tokio::select! {
            news = watcher.next() => news,
            () = stopped(&mut working) => None,
        };
        Some((news?, (watcher, working)))
    });
    let told = news.filter_map(move |news| {
        let told = wanted.told(news).map_err(Status::unavailable);
        std::future::ready(told.transpose())
    });
    until_an_error(told)
}

/// What happened, and what happens, as far as it is about this NIC.
pub(super) fn events(
    past: Vec<Arc<Event>>,
    watch: Option<EventWatch>,
    working: Working,
    nic: Option<NicId>,
) -> Messages<pb::WatchEventsResponse> {
    let past = past.into_iter().map(|event| Ok(convert::event(&event)));
    let past = stream::iter(past.collect::<Vec<_>>());
    let Some(watch) = watch else {
        return Box::pin(past);
    };
    let news = stream::unfold((watch, working), async |(mut watch, mut working)| {
        let news: Option<EventNews> = tokio::select! {
            news = watch.next() => news,
            () = stopped(&mut working) => None,
        };
        Some((news?, (watch, working)))
    });
    let told = news.filter_map(move |news| {
        let told = convert::event_news(&news, nic.as_ref());
        std::future::ready(told.map(Ok))
    });
    until_an_error(past.chain(told))
}

/// Only the server ends such a stream by itself, and says why.
fn until_an_error<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Messages<T> {
    let end = stream::iter([Err(Status::unavailable("the agent is stopping"))]);
    let all = messages.chain(end);
    Box::pin(all.scan(false, |failed, message| {
        let told = (!*failed).then_some(message);
        *failed |= told.as_ref().is_some_and(Result::is_err);
        std::future::ready(told)
    }))
}
