//! Questions to all workers, and their answers, over one connection and one subscription.

use super::sample::Sample;
use crate::cli::client::Client;
use crate::cli::failed::CommandError;
use crate::cli::workers::read_answer;
use crate::client::ClientError;
use async_nats::Subscriber;
use async_nats::connection::State;
use futures::StreamExt as _;
use tokio::sync::watch;

/// Asks all workers for their statistics, again and again.
pub(super) struct Poll {
    nats: async_nats::Client,
    subject: String,
    /// Answers come below this subject, under the number of the question.
    inbox: String,
    answers: Subscriber,
    denials: watch::Receiver<String>,
    question: u64,
    shard: Option<String>,
}

/// An answer, and the question that it is for.
pub(super) struct Answer {
    pub sample: Sample,
    pub question: u64,
}

impl Poll {
    /// Subscribes to the answers of all workers, or of those of one shard.
    pub async fn open(client: &Client, shard: Option<&str>) -> anyhow::Result<Self> {
        let nats = client.nats().clone();
        let inbox = nats.new_inbox();

        Ok(Self {
            subject: format!("$SRV.STATS.{}", client.service_name()),
            answers: nats.subscribe(format!("{inbox}.*")).await?,
            denials: client.denials(),
            nats,
            inbox,
            question: 0,
            shard: shard.map(str::to_owned),
        })
    }

    /// Returns whether there is a connection to NATS.
    pub fn is_connected(&self) -> bool {
        self.nats.connection_state() == State::Connected
    }

    /// Asks all workers.
    pub async fn ask(&mut self) -> anyhow::Result<()> {
        self.question += 1;
        let reply = format!("{}.{}", self.inbox, self.question);

        let subject = self.subject.clone();
        Ok(self
            .nats
            .publish_with_reply(subject, reply, "".into())
            .await?)
    }

    /// Waits for an answer. Messages of another form are left out.
    ///
    /// # Errors
    ///
    /// NATS does not let the user ask, or the connection was closed for good.
    pub async fn next(&mut self) -> Result<Answer, CommandError> {
        loop {
            let message = tokio::select! {
                message = self.answers.next() => message,
                Ok(()) = self.denials.changed() => {
                    let subject = self.denials.borrow_and_update().clone();
                    if subject == self.subject {
                        return Err(CommandError::from(&ClientError::Denied { subject }));
                    }
                    continue;
                }
            };
            let message = message.ok_or_else(|| CommandError::from(&ClientError::Closed))?;

            let question = message.subject.rsplit('.').next();
            let question = question.and_then(|number| number.parse().ok());
            let question = question.filter(|number| (1..=self.question).contains(number));
            let sample = read_answer(&message.payload);
            let sample = sample.and_then(|answer| Sample::read(&answer));
            let Some((question, sample)) = question.zip(sample) else {
                continue;
            };
            if self
                .shard
                .as_ref()
                .is_none_or(|shard| *shard == sample.shard)
            {
                return Ok(Answer { sample, question });
            }
        }
    }
}
