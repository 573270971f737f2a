//! Writes lines on a thread of its own, so that a reader that stops holds up no other thread. Lines
//! wait in memory meanwhile. Those that do not fit there are dropped and counted.
//!
//! The thread writes the lines of a moment together. Waking it and writing for each line was a sixth
//! of what a busy worker did.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the thread lets lines gather before it writes them.
const GATHERING_TIME: Duration = Duration::from_millis(5);

/// The most bytes of lines that are written together. A longer write to a pipe may be torn apart by
/// another process that writes to it too (`PIPE_BUF` of Linux).
const WRITE_BYTES_MAX: usize = 4096;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    /// The most bytes of all lines that wait, and of those being written.
    pub bytes_max: usize,
    /// The most lines that wait.
    pub lines_max: usize,
}

/// Takes lines for the thread. Each call of [`write`](Write::write) is one line, or none.
#[derive(Clone)]
pub(super) struct LineWriter(Arc<Shared>);

struct Shared {
    capacity: Capacity,
    queue: Mutex<Queue>,
    /// Wakes the thread.
    has_work: Condvar,
    /// Wakes the end of the process, which waits until everything is written.
    is_idle: Condvar,
    /// The lines that were dropped since the start.
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    /// The bytes of `lines`, and of the lines being written.
    bytes: usize,
    /// The lines that were dropped since the last report.
    unreported: u64,
    /// Whether the thread writes or reports.
    is_busy: bool,
    /// Whether the thread waits to be woken.
    is_asleep: bool,
}

/// What the thread does next.
enum Work {
    /// Write these bytes, which are so many lines.
    Write(Vec<u8>, u64),
    /// Report that so many lines were dropped.
    Report(u64),
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.unreported == 0 && !self.is_busy
    }

    /// Takes the lines that are written next, and counts them: as many as may be written together.
    fn take_lines(&mut self) -> (Vec<u8>, u64) {
        let (mut bytes, mut count) = (Vec::new(), 0);

        while let Some(line) = self.lines.front()
            && (count == 0 || bytes.len() + line.len() <= WRITE_BYTES_MAX)
        {
            bytes.extend_from_slice(line);
            count += 1;
            self.lines.pop_front();
        }

        (bytes, count)
    }
}

impl LineWriter {
    /// Starts the thread, which writes to `out`. It calls `report` with the number of dropped lines
    /// once there is room again; `report` may write a line about it.
    pub fn start(
        capacity: Capacity,
        out: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            capacity,
            queue: Mutex::default(),
            has_work: Condvar::new(),
            is_idle: Condvar::new(),
            dropped: AtomicU64::new(0),
        });

        let thread = std::thread::Builder::new().name("log".to_owned());
        let of_thread = Arc::clone(&shared);
        thread.spawn(move || of_thread.run(out, report))?;

        Ok(Self(shared))
    }

    /// Adds a line. It never waits for the reader.
    pub fn push(&self, line: &[u8]) {
        let line: Box<[u8]> = line.into();
        let mut queue = self.0.lock();

        // Once lines are dropped, all are until the report, so that the log has one gap and not many.
        if queue.unreported == 0 && self.0.has_room(&queue, line.len(), 1) {
            queue.bytes += line.len();
            queue.lines.push_back(line);
        } else {
            queue.unreported += 1;
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if std::mem::take(&mut queue.is_asleep) {
            self.0.has_work.notify_one();
        }
    }

    /// Returns how many lines were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub fn wait_until_written(&self, limit: Duration) {
        let queue = self.0.lock();
        let is_at_work = |queue: &mut Queue| !queue.is_idle();

        // How it ended makes no difference: the process ends.
        drop(self.0.is_idle.wait_timeout_while(queue, limit, is_at_work));
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether so much more fits.
    fn has_room(&self, queue: &Queue, bytes: usize, lines: usize) -> bool {
        let Capacity {
            bytes_max,
            lines_max,
        } = self.capacity;

        queue.bytes + bytes <= bytes_max && queue.lines.len() + lines <= lines_max
    }

    fn run(&self, mut out: impl Write, report: impl Fn(u64)) {
        loop {
            match self.next_work() {
                Work::Write(bytes, lines) => {
                    // Nobody can be told about lines that cannot be written, but they are counted.
                    if out.write_all(&bytes).is_err() {
                        self.dropped.fetch_add(lines, Ordering::Relaxed);
                    }
                    self.finish(bytes.len());
                }
                Work::Report(dropped) => {
                    report(dropped);
                    self.finish(0);
                }
            }
        }
    }

    /// Waits for work. It is time for a report when half of the capacity is free, so that the report
    /// and what follows it find room.
    fn next_work(&self) -> Work {
        let half_bytes = self.capacity.bytes_max.div_ceil(2);
        let half_lines = self.capacity.lines_max.div_ceil(2);
        let mut queue = self.lock();

        loop {
            if queue.unreported > 0 && self.has_room(&queue, half_bytes, half_lines) {
                queue.is_busy = true;
                return Work::Report(std::mem::take(&mut queue.unreported));
            }
            if !queue.lines.is_empty() {
                queue.is_busy = true;
                let (bytes, lines) = queue.take_lines();
                return Work::Write(bytes, lines);
            }

            queue.is_asleep = true;
            let woken = self
                .has_work
                .wait_while(queue, |queue| queue.is_asleep)
                .unwrap_or_else(PoisonError::into_inner);
            drop(woken);
            std::thread::sleep(GATHERING_TIME);
            queue = self.lock();
        }
    }

    /// Ends a piece of work that has freed so many bytes.
    fn finish(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.bytes -= bytes;
        queue.is_busy = false;

        if queue.is_idle() {
            self.is_idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// How long a step may take that is not to take any time.
    const STEP_TIMEOUT: Duration = Duration::from_secs(20);

    /// A reader that takes what is written together when the test lets it.
    struct Reader {
        permits: Receiver<()>,
        writes: Sender<String>,
    }

    impl Write for Reader {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(io::Error::other)?;
            let text = String::from_utf8_lossy(lines).into_owned();
            self.writes.send(text).map_err(io::Error::other)?;

            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer, the permits of its reader, what that reader has read, and the reports.
    struct Stage {
        writer: LineWriter,
        permits: Sender<()>,
        writes: Receiver<String>,
        reports: Receiver<u64>,
    }

    fn stage(bytes_max: usize, lines_max: usize) -> Stage {
        let (permits, permitted) = channel();
        let (read, writes) = channel();
        let (reported, reports) = channel();
        let reader = Reader {
            permits: permitted,
            writes: read,
        };
        let report = move |dropped| reported.send(dropped).expect("a receiver");
        let capacity = Capacity {
            bytes_max,
            lines_max,
        };

        Stage {
            writer: LineWriter::start(capacity, reader, report).expect("a thread"),
            permits,
            writes,
            reports,
        }
    }

    impl Stage {
        /// Lets the reader take what is written together, and returns it.
        fn read(&self) -> String {
            self.permits.send(()).expect("a reader");
            self.writes.recv_timeout(STEP_TIMEOUT).expect("a write")
        }

        /// Lets the reader take so many lines, and returns them.
        fn read_lines(&self, count: usize) -> String {
            let mut lines = String::new();
            while lines.lines().count() < count {
                lines += &self.read();
            }

            lines
        }

        /// Waits until the thread writes, which it cannot end.
        fn wait_for_writing(&self) {
            while !self.writer.0.lock().is_busy {
                std::thread::yield_now();
            }
        }

        fn push(&self, lines: &[&str]) {
            for line in lines {
                self.writer.push(line.as_bytes());
            }
        }
    }

    #[test]
    fn lines_come_out_as_they_went_in() {
        let stage = stage(100, 10);

        stage.push(&["one\n", "two\n", "three\n"]);

        assert_eq!(stage.read_lines(3), "one\ntwo\nthree\n");
        stage.writer.wait_until_written(STEP_TIMEOUT);
        assert!(stage.writer.0.lock().is_idle());
        assert_eq!(stage.writer.dropped(), 0);
    }

    #[test]
    fn lines_are_written_together_and_never_cut() {
        let stage = stage(1 << 20, 1_000);
        let long = "x".repeat(WRITE_BYTES_MAX) + "\n";
        stage.push(&["first\n"]);
        stage.wait_for_writing();

        stage.push(&["one\n", "two\n", &long, "three\n"]);

        assert_eq!(stage.read(), "first\n");
        assert_eq!(stage.read(), "one\ntwo\n");
        assert_eq!(stage.read(), long);
        assert_eq!(stage.read(), "three\n");
    }

    #[test]
    fn bytes_that_do_not_fit_are_dropped_and_reported_once() {
        let stage = stage(10, 10);

        stage.push(&["aaaa\n", "bbbb\n", "c\n", "d\n"]);
        assert_eq!(stage.writer.dropped(), 2);
        assert!(stage.reports.try_recv().is_err(), "there is no room yet");

        assert_eq!(stage.read_lines(2), "aaaa\nbbbb\n");
        assert_eq!(stage.reports.recv_timeout(STEP_TIMEOUT), Ok(2));
        stage.push(&["e\n"]);
        assert_eq!(stage.read(), "e\n");
        assert_eq!(stage.writer.dropped(), 2);
        assert!(stage.reports.try_recv().is_err());
    }

    #[test]
    fn lines_that_are_too_many_are_dropped_too() {
        let stage = stage(100, 2);
        stage.push(&["taken by the thread\n"]);
        stage.wait_for_writing();

        stage.push(&["1\n", "2\n", "3\n"]);

        assert_eq!(stage.writer.dropped(), 1);
    }

    #[test]
    fn a_line_longer_than_all_room_stops_nothing() {
        let stage = stage(10, 10);

        stage.push(&["a line that never fits\n"]);
        assert_eq!(stage.reports.recv_timeout(STEP_TIMEOUT), Ok(1));

        stage.push(&["ok\n"]);
        assert_eq!(stage.read(), "ok\n");
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_stopped() {
        let stage = stage(100, 10);
        stage.push(&["never read\n"]);

        stage.writer.wait_until_written(Duration::from_millis(1));

        assert!(!stage.writer.0.lock().is_idle());
    }

    #[test]
    fn lines_for_a_reader_that_is_gone_are_counted() {
        let Stage {
            writer, permits, ..
        } = stage(100, 10);
        drop(permits);

        writer.push(b"one\n");
        writer.push(b"two\n");
        writer.wait_until_written(STEP_TIMEOUT);

        assert_eq!(writer.dropped(), 2);
    }
}
