//! Calls to Postgres that are made together: those that come while as many are under way as may be wait
//! for one of them to end, and then are one call.

use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Questions that wait to be asked together.
pub(super) struct Together<Q, A> {
    queue: Arc<Mutex<Queue<Q, A>>>,
    /// The most questions in one call. If it fails, all of them are without an answer.
    questions_max: usize,
    /// The most calls at the same time.
    calls_max: usize,
}

struct Queue<Q, A> {
    waiting: Vec<Waiting<Q, A>>,
    /// How many tasks ask them.
    tasks: usize,
}

struct Waiting<Q, A> {
    question: Q,
    answer: oneshot::Sender<A>,
}

impl<Q, A> Clone for Together<Q, A> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            questions_max: self.questions_max,
            calls_max: self.calls_max,
        }
    }
}

impl<Q, A> Queue<Q, A> {
    /// Counts a task that has failed. What waits is dropped if no task is left to ask it.
    fn fail(&mut self) {
        self.tasks -= 1;
        if self.tasks == 0 {
            self.waiting.clear();
        }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    /// One call at a time.
    pub fn new(questions_max: usize) -> Self {
        Self::with_calls(questions_max, 1)
    }

    /// Some calls at the same time.
    pub fn with_calls(questions_max: usize, calls_max: usize) -> Self {
        let queue = Queue {
            waiting: Vec::new(),
            tasks: 0,
        };

        Self {
            queue: Arc::new(Mutex::new(queue)),
            questions_max,
            calls_max,
        }
    }

    /// Returns the answer to the question; `None` if the call that asked it gave none. `call` asks
    /// questions, and returns their answers in the order of the questions.
    pub async fn ask<F>(
        &self,
        question: Q,
        call: impl Fn(Vec<Q>) -> F + Send + Sync + 'static,
    ) -> Option<A>
    where
        F: Future<Output = Vec<A>> + Send,
    {
        let (answer, answered) = oneshot::channel();
        if self.add(Waiting { question, answer }) {
            // A task of its own, because the request that begins it may give up.
            let this = self.clone();
            tokio::spawn(async move {
                let asked = AssertUnwindSafe(this.answer_all(call)).catch_unwind();
                if asked.await.is_err() {
                    this.lock().fail();
                }
            });
        }

        answered.await.ok()
    }

    /// Asks all questions that wait, and those that come meanwhile.
    async fn answer_all<F>(&self, call: impl Fn(Vec<Q>) -> F)
    where
        F: Future<Output = Vec<A>>,
    {
        loop {
            let (questions, waiting) = self.take();
            if questions.is_empty() {
                return;
            }
            for (answer, waiting) in std::iter::zip(call(questions).await, waiting) {
                // Nobody may wait for it any more.
                let _ = waiting.send(answer);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Q, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a question. Returns whether a task has to be started for it.
    fn add(&self, waiting: Waiting<Q, A>) -> bool {
        let mut queue = self.lock();
        queue.waiting.push(waiting);
        let is_needed = queue.tasks < self.calls_max;
        queue.tasks += usize::from(is_needed);
        is_needed
    }

    /// Takes the questions that are asked next: those that came first, unless nobody waits for them
    /// any more. None if there are none; the next question then starts a task.
    fn take(&self) -> (Vec<Q>, Vec<oneshot::Sender<A>>) {
        let mut queue = self.lock();
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        let count = queue.waiting.len().min(self.questions_max);
        let taken = queue.waiting.drain(..count);
        let taken = taken.map(|waiting| (waiting.question, waiting.answer));
        let taken: (Vec<_>, Vec<_>) = taken.unzip();
        queue.tasks -= usize::from(taken.0.is_empty());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use std::time::Duration;
    use tokio::sync::Semaphore;
    use tokio::time::{sleep, timeout};

    /// Answers each question with itself and the number of those asked with it, once `permits` has
    /// one.
    async fn echo(questions: Vec<u32>, permits: Arc<Semaphore>) -> Vec<(u32, usize)> {
        permits.acquire().await.expect("open").forget();
        let count = questions.len();
        questions
            .into_iter()
            .map(|number| (number, count))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_meanwhile_is_asked_in_one_call() {
        let together = Together::new(4);
        let permits = Arc::new(Semaphore::new(0));
        let ask = |number| {
            let permits = permits.clone();
            together.ask(number, move |questions| echo(questions, permits.clone()))
        };

        let given_up = async { timeout(Duration::from_millis(5), ask(9)).await };
        let waiting = async {
            sleep(Duration::from_millis(1)).await;
            tokio::join!(join_all((1..=5).map(ask)), given_up)
        };
        let begin = async {
            sleep(Duration::from_millis(20)).await;
            permits.add_permits(10);
        };
        let (first, (later, given_up), ()) = tokio::join!(ask(0), waiting, begin);

        assert_eq!(first, Some((0, 1)));
        assert!(given_up.is_err());
        let of_four = (1..=4).map(|number| Some((number, 4)));
        let expected: Vec<_> = of_four.chain([Some((5, 1))]).collect();
        assert_eq!(later, expected, "nobody waits for 9 any more");
        assert_eq!(ask(6).await, Some((6, 1)), "the task has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn some_calls_are_made_at_the_same_time() {
        let together = Together::with_calls(4, 2);
        let permits = Arc::new(Semaphore::new(0));
        let ask = |number: u32| {
            let permits = permits.clone();
            together.ask(number, move |questions| {
                let permits = permits.clone();
                async move {
                    // The first call takes long.
                    let long = if questions == [1] { 500 } else { 1 };
                    sleep(Duration::from_millis(long)).await;
                    echo(questions, permits).await
                }
            })
        };
        permits.add_permits(10);

        let first = ask(1);
        let others = async {
            sleep(Duration::from_millis(1)).await;
            timeout(Duration::from_millis(100), join_all((2..=4).map(ask))).await
        };
        let (first, others) = tokio::join!(first, others);

        assert_eq!(first, Some((1, 1)));
        let others = others.expect("they do not wait for the first");
        assert_eq!(others, [2, 3, 4].map(|number| Some((number, 3))));
    }

    #[tokio::test]
    async fn after_a_call_that_failed_others_are_made() {
        for calls_max in [1, 2] {
            let together = Together::with_calls(4, calls_max);
            let ask = |number: u32| {
                together.ask(number, |questions: Vec<u32>| async move {
                    assert!(questions != [1], "as planned");
                    let few = questions.into_iter().filter(|number| *number != 2);
                    few.collect::<Vec<u32>>()
                })
            };

            for _ in 0..calls_max {
                assert_eq!(ask(1).await, None, "it panicked");
            }
            assert_eq!(ask(2).await, None, "it gave too few answers");
            assert_eq!(ask(3).await, Some(3));
        }
    }
}
