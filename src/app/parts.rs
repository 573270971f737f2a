//! What a worker does beside answering: each in a task of its own that never ends, unless something is wrong.

use std::collections::HashMap;
use std::future::Future;
use tokio::task::{AbortHandle, Id, JoinSet};

/// The tasks of a worker that answer no requests. Dropped, all of them end.
#[derive(Default)]
pub(super) struct Parts {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    /// Begins one under a name for the log. The result ends it, as is right for one that is not needed any more.
    pub fn begin(
        &mut self,
        name: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        let handle = self.running.spawn(part);
        self.names.insert(handle.id(), name);
        handle
    }

    /// Ends, with the reason, when one of them ends that should not.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => anyhow::anyhow!("{} has ended", self.name(id)),
            Some(Err(fault)) => {
                let name = self.name(fault.id());
                anyhow::Error::new(fault).context(format!("{name} failed"))
            }
            None => std::future::pending().await,
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names
            .get(&id)
            .copied()
            .unwrap_or("a part of the worker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_ends_or_fails_is_named() {
        let mut parts = Parts::default();
        parts.begin("the projection", std::future::pending());
        parts.begin("the hearing of revocations", async {});
        assert_eq!(
            parts.ended().await.to_string(),
            "the hearing of revocations has ended"
        );
        parts.begin("the look at history", async { panic!("for the test") });
        assert_eq!(
            parts.ended().await.to_string(),
            "the look at history failed"
        );
    }

    #[tokio::test]
    async fn while_all_of_them_run_it_waits() {
        let mut parts = Parts::default();
        let limit = std::time::Duration::from_millis(20);
        assert!(
            tokio::time::timeout(limit, parts.ended()).await.is_err(),
            "there are none"
        );
        parts.begin("the projection", std::future::pending());
        assert!(tokio::time::timeout(limit, parts.ended()).await.is_err());
    }
}
