//! What is read from the kernel for a caller, beside the agent's task.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::{Drops, ReadError, drops};
use crate::{
    dataplane::{DataplaneError, Reader},
    policy::Numbering,
    ruleset::Learned,
};

/// How many readings may go on at the same time: each walks over all that there is.
const TOGETHER: usize = 2;

type Reply<T> = oneshot::Sender<Result<T, ReadError>>;

/// What is asked of the kernel.
#[derive(Debug)]
pub(super) enum Question {
    Drops(Reply<Drops>),
    RulesetText(Reply<String>),
    Learned(Reply<Learned>),
}

/// Answers questions, a few at a time.
#[derive(Debug)]
pub(super) struct Reads(Arc<Semaphore>);

impl Default for Reads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER)))
    }
}

impl Reads {
    /// Begins to read; says nothing where nobody waits for it any more.
    pub(super) fn begin(&self, question: Question, reader: impl Reader, numbering: Numbering) {
        let turns = Arc::clone(&self.0);
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire().await else {
                return;
            };
            match question {
                Question::Drops(reply) => {
                    let counted = async { Ok(drops::tally(&reader.drops().await?, &numbering)) };
                    answer(reply, counted).await;
                }
                Question::RulesetText(reply) => answer(reply, reader.text()).await,
                Question::Learned(reply) => answer(reply, reader.learned()).await,
            }
        });
    }
}

async fn answer<T>(mut reply: Reply<T>, reading: impl Future<Output = Result<T, DataplaneError>>) {
    tokio::select! {
        read = reading => {
            let _ = reply.send(read.map_err(|error| ReadError(error.to_string())));
        }
        () = reply.closed() => {}
    }
}
