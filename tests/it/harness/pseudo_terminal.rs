//! Programs on a pseudo-terminal, with what they print and the screen that a person sees.

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, ttyname};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long something that has to be printed may take.
const PRINT_TIMEOUT: Duration = Duration::from_secs(20);

/// A command that runs on a pseudo-terminal.
pub struct OnTerminal {
    child: Child,
    master: File,
    path: PathBuf,
    printed: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// Everything that was printed.
    pub text: String,
}

impl OnTerminal {
    /// Starts a command on a terminal with so many rows and columns.
    pub fn start(mut command: Command, (rows, columns): (u16, u16)) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a terminal");
        let path = ttyname(&slave).expect("a name");
        let stream = || Stdio::from(slave.try_clone().expect("cloned"));

        command
            .env("TERM", "xterm")
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .kill_on_drop(true);
        let child = command.spawn().expect("it starts");
        // What it holds of the terminal has to be closed, so that its end is seen.
        drop(command);
        drop(slave);

        let master = File::from(master);
        let mut output = master.try_clone().expect("cloned");
        let (send, printed) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The read fails once no process has the terminal any more.
            while let Ok(size @ 1..) = output.read(&mut buffer) {
                if send.send(buffer[..size].to_vec()).is_err() {
                    break;
                }
            }
        });

        Self {
            child,
            master,
            path,
            printed,
            parser: vt100::Parser::new(size_of(rows), size_of(columns), 0),
            text: String::new(),
        }
    }

    /// Waits until this is printed.
    pub fn wait_for(&mut self, text: &str) {
        tokio::task::block_in_place(|| {
            while !self.text.contains(text) {
                self.read_more(text);
            }
        });
    }

    /// Waits until the screen is so, and returns it.
    pub fn wait_until(
        &mut self,
        what: &str,
        is_so: impl Fn(&vt100::Screen) -> bool,
    ) -> &vt100::Screen {
        tokio::task::block_in_place(|| {
            while !is_so(self.parser.screen()) {
                self.read_more(what);
            }
        });

        self.parser.screen()
    }

    fn read_more(&mut self, what: &str) {
        let more = self.printed.recv_timeout(PRINT_TIMEOUT);
        let more = more.unwrap_or_else(|_| {
            let screen = self.parser.screen().contents();
            panic!("no {what} in {}\non the screen:\n{screen}", self.text)
        });

        self.text += &String::from_utf8_lossy(&more);
        self.parser.process(&more);
    }

    /// Types these keys.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typed");
    }

    /// Changes the size of the terminal, and tells the program so.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let resized = std::process::Command::new("stty")
            .stdin(std::fs::File::open(&self.path).expect("the terminal"))
            .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
            .status();
        assert!(resized.expect("it starts").success());

        let screen = self.parser.screen_mut();
        screen.set_size(size_of(rows), size_of(columns));
        self.signal(Signal::SIGWINCH);
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        let id = Pid::from_raw(id.try_into().expect("a process id"));
        kill(id, signal).expect("sent");
    }

    /// Returns whether the terminal shows what is typed, and gives it to programs by lines.
    pub fn is_as_a_shell_wants_it(&self) -> bool {
        let flags = tcgetattr(&self.master).expect("settings").local_flags;

        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// Waits until it ends, and returns everything that it printed.
    pub async fn end(mut self) -> String {
        self.ended().await;

        self.text.replace("\r\n", "\n")
    }

    /// Waits until it ends, and returns how, and the screen that it leaves.
    pub async fn ended(&mut self) -> (ExitStatus, &vt100::Screen) {
        let status = self.child.wait().await.expect("it ends");
        tokio::task::block_in_place(|| {
            while let Ok(more) = self.printed.recv_timeout(PRINT_TIMEOUT) {
                self.text += &String::from_utf8_lossy(&more);
                self.parser.process(&more);
            }
        });

        (status, self.parser.screen())
    }
}

fn size_of(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).expect("above zero")
}
