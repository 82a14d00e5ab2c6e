//! One table of commands and flags feeds the parser, the help pages and the tests against Docker's own surface.
//!
//! ```text
//! catalog (what exists) ──► parse (clap) ──► Values ──► command/<verb>
//!            └────────────► help (pages in Docker's layout)
//! ```

mod catalog;
mod container;
mod help;
mod image;
mod parse;
mod run;
mod system;
mod value;

pub(crate) use catalog::{COMMANDS, GROUPS, find, global_flags};
pub(crate) use help::{group_page, page, root_page};
pub(crate) use parse::{Parsed, parse, parse_global};
pub(crate) use value::Values;
pub(crate) use value::parse_bytes;

use crate::Invocation;
use crate::error::Error;
use std::pin::Pin;

/// What a flag takes. The names that help pages show are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--x`, `--x=false`.
    Bool,
    Str,
    /// May be repeated.
    List,
    /// May be repeated, and each may hold several values with commas between.
    Strings,
    /// `KEY=VALUE`, may be repeated.
    Map,
    Int,
    Uint,
    Uint16,
    /// Processors: up to nine digits after the point.
    Decimal,
    /// `64m`.
    Bytes,
    /// `1m30s`.
    Duration,
    /// `KEY=VALUE`, may be repeated.
    Filter,
    Mount,
    Network,
    Ulimit,
    Gpus,
}

impl Kind {
    /// The word behind the flag in a help page; empty for switches.
    pub(crate) const fn hint(self) -> &'static str {
        match self {
            Self::Bool => "",
            Self::Str => "string",
            Self::List => "list",
            Self::Strings => "strings",
            Self::Map => "map",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Uint16 => "uint16",
            Self::Decimal => "decimal",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Filter => "filter",
            Self::Mount => "mount",
            Self::Network => "network",
            Self::Ulimit => "ulimit",
            Self::Gpus => "gpu-request",
        }
    }
}

/// Says what is wrong with a value.
pub(crate) type Check = fn(&str) -> Result<(), String>;

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Without the dashes.
    pub(crate) name: &'static str,
    /// The letter behind one dash.
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    /// One sentence, or lines; broken by the width of the terminal when shown.
    pub(crate) usage: &'static str,
    /// As help shows it; empty where the default is nothing.
    pub(crate) default: &'static str,
    /// Another spelling that is understood but not shown.
    pub(crate) alias: Option<&'static str>,
    /// Whether help leaves it out.
    pub(crate) hidden: bool,
    /// Whether Docker has no such flag. The pages of `docker` are Docker's, so they leave it out too.
    pub(crate) own: bool,
    /// Refuses a value while flags are read, so that the message names the flag.
    pub(crate) check: Option<Check>,
}

/// Starts a row of the table.
pub(crate) const fn flag(name: &'static str, kind: Kind, usage: &'static str) -> Flag {
    Flag { name, short: None, kind, usage, default: "", alias: None, hidden: false, own: false, check: None }
}

impl Flag {
    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn default(mut self, shown: &'static str) -> Self {
        self.default = shown;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    const fn own(mut self) -> Self {
        self.own = true;
        self
    }

    const fn alias(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Docker's way to name a flag in a message: `-m, --memory`.
    pub(crate) fn display(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// How many words may follow the flags.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Args {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// What a command does: a future that ends with the exit code.
pub(crate) type Handler = fn(Invocation) -> Pin<Box<dyn Future<Output = Result<u8, Error>>>>;

/// One command, under a group (`container run`) and often at the top (`run`) too.
pub(crate) struct Command {
    /// Where it is found: `["run"]`, `["container", "run"]`. The first is its name in messages of its own.
    pub(crate) paths: &'static [&'static [&'static str]],
    /// What follows the name in `Usage:`; a second line is a second form.
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
    pub(crate) flags: &'static [&'static [Flag]],
    pub(crate) args: Args,
    /// Everything after the first word belongs to another program.
    pub(crate) passes_on: bool,
    /// Whether the top of the help lists it under "Common Commands".
    pub(crate) common: bool,
    /// Whether Docker has no such command.
    pub(crate) own: bool,
    pub(crate) handler: Handler,
}

impl Command {
    /// All flags, in the order of the help page.
    pub(crate) fn all_flags(&self) -> Vec<&'static Flag> {
        let mut flags: Vec<&Flag> = self.flags.iter().flat_map(|group| group.iter()).collect();
        flags.sort_by_key(|flag| flag.name);
        flags
    }
}
