//! What is sent to subjects of the bucket's account while a test looks.

use super::World;
use async_nats::{Client, Message, Subscriber};
use futures::{FutureExt as _, StreamExt as _};

/// What is sent to some subjects from now on, in a world with the user `breaker`.
pub struct Sent {
    client: Client,
    messages: Subscriber,
}

impl Sent {
    /// Begins to look at what is sent to `subjects`.
    pub async fn to(world: &World, subjects: &str) -> Self {
        let client = world.connect_breaker().await;
        let messages = client
            .subscribe(subjects.to_owned())
            .await
            .expect("a subscription");
        client.flush().await.expect("flushed");

        Self { client, messages }
    }

    /// Returns how many of the messages that were sent until now are such.
    pub async fn count(mut self, is_such: impl Fn(&Message) -> bool) -> usize {
        self.client.flush().await.expect("flushed");

        let mut count = 0;
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            count += usize::from(is_such(&message));
        }
        count
    }
}
