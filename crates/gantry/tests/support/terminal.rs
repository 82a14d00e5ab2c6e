//! A program on a terminal of its own, driven as a person would: type, and wait for what appears.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a word may take to appear; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The person's side of a terminal, and the program on the other.
pub struct Terminal {
    master: File,
    output: Receiver<Vec<u8>>,
    seen: String,
    child: Child,
}

impl Terminal {
    /// Start a program on a new terminal of 80 columns and 24 rows.
    pub fn spawn(mut command: Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let open =
            || File::options().read(true).write(true).open(name.to_str().expect("a path")).expect("the other side");
        let slave = open();
        resize(&master, 80, 24);
        let child = command.stdin(open()).stdout(open()).stderr(slave).spawn().expect("the program");
        // The command keeps its copies of the terminal open; only the child shall have it.
        drop(command);
        let master = File::from(master);
        let mut reader = master.try_clone().expect("a copy");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other side is closed reads as an error.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { master, output, seen: String::new(), child }
    }

    /// Type.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typing");
    }

    /// Wait until a text appears after what was waited for before; returns all up to its end.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} did not appear on the terminal, but:\n{}", self.seen),
            }
        }
    }

    /// Change the size of the window, and tell the program as a terminal does.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        resize(&self.master, columns, rows);
        // The program has no controlling terminal here, so the kernel does not send this by itself.
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("SIGWINCH");
    }

    /// Wait for the program's end.
    pub fn wait(mut self) -> i32 {
        self.child.wait().expect("wait").code().unwrap_or(-1)
    }
}

fn resize(terminal: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
}
