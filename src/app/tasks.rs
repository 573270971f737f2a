//! The background tasks of a worker. None of them ends unless something is wrong.

use std::collections::HashMap;
use std::future::Future;
use tokio::task::{AbortHandle, Id, JoinSet};

/// The tasks of a worker that answer no requests. Dropping it ends all of them.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task under a name for the log. The handle ends it without that counting as a
    /// failure.
    ///
    /// # Errors
    /// A task of that name was started before: two that do the same work are a mistake.
    pub fn start(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<AbortHandle> {
        anyhow::ensure!(
            !self.names.values().any(|known| *known == name),
            "a task named {name} was started before"
        );

        let handle = self.running.spawn(task);
        self.names.insert(handle.id(), name);
        Ok(handle)
    }

    /// Waits until a task ends that should not, and returns the reason.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => anyhow::anyhow!("task {} has ended", self.name(id)),
            Some(Err(error)) => {
                let name = self.name(error.id());
                anyhow::Error::new(error).context(format!("task {name} failed"))
            }
            None => std::future::pending().await,
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("without a name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_task_that_ends_or_fails_is_named() {
        let mut tasks = Tasks::default();
        tasks
            .start("projection", std::future::pending())
            .expect("new");
        tasks.start("revocations", async {}).expect("new");
        assert_eq!(
            tasks.ended().await.to_string(),
            "task revocations has ended"
        );

        tasks
            .start("continuity_watch", async { panic!("for the test") })
            .expect("new");
        assert_eq!(
            tasks.ended().await.to_string(),
            "task continuity_watch failed"
        );
    }

    #[tokio::test]
    async fn while_all_tasks_run_nothing_is_reported() {
        let mut tasks = Tasks::default();
        let limit = Duration::from_millis(20);
        let ended = timeout(limit, tasks.ended()).await;
        assert!(ended.is_err(), "there are none");

        tasks
            .start("projection", std::future::pending())
            .expect("new");
        let ended = timeout(limit, tasks.ended()).await;
        assert!(ended.is_err());
    }

    #[tokio::test]
    async fn a_second_task_of_the_same_name_is_an_error() {
        let mut tasks = Tasks::default();
        tasks
            .start("housekeeping", std::future::pending())
            .expect("new");

        let error = tasks
            .start("housekeeping", std::future::pending())
            .expect_err("it is there");

        assert_eq!(
            error.to_string(),
            "a task named housekeeping was started before"
        );
    }
}
