//! Help pages in Docker's layout: usage, description, aliases, and flags in aligned columns broken at the terminal's width.

use super::{COMMANDS, Command, Flag, GROUPS, global_flags};
use crate::terminal;
use std::fmt::Write;

/// The page of one command. `called` is how it was named, `container run`.
pub(crate) fn page(program: &str, command: &Command, called: &str) -> String {
    let mut text = format!("Usage:  {}\n\n{}\n", usage(program, command, called), command.about);
    let names: Vec<String> = command.paths.iter().map(|path| format!("{program} {}", path.join(" "))).collect();
    if names.len() > 1 {
        // Docker names a command in its group before it names it at the top.
        let mut names = names;
        names.sort_by_key(|name| name.matches(' ').count() == 1);
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    let mut flags = command.all_flags();
    flags.retain(|flag| !flag.own || program != "docker");
    if !flags.is_empty() {
        let _ = write!(text, "\nOptions:\n{}", options(&flags, terminal::help_width()));
    }
    text
}

/// `docker cp [OPTIONS] …`; every form after the first stands on a line of its own.
pub(crate) fn usage(program: &str, command: &Command, called: &str) -> String {
    let mut forms = command.usage.lines();
    let mut text = format!("{program} {called} {}", forms.next().unwrap_or_default());
    for form in forms {
        let _ = write!(text, "\n\t{program} {} {form}", command.paths[0].join(" "));
    }
    text.truncate(text.trim_end().len());
    text
}

/// The page of a group: `container`.
pub(crate) fn group_page(program: &str, group: &str) -> String {
    let about = GROUPS.iter().find(|(name, _)| *name == group).map_or("", |(_, about)| about);
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for command in COMMANDS.iter().filter(|command| !command.own || program != "docker") {
        let path = command.paths.iter().find(|path| path.len() == 2 && path[0] == group);
        rows.extend(path.map(|path| (path[1], first_line(command.about))));
    }
    rows.sort_unstable();
    let hint = format!("Run '{program} {group} COMMAND --help' for more information on a command.");
    format!("Usage:  {program} {group} COMMAND\n\n{about}\n\nCommands:\n{}\n{hint}\n", listing(&rows))
}

/// The first page.
pub(crate) fn root_page(program: &str) -> String {
    let top = |common: bool| {
        let mut rows: Vec<(&str, &str)> = COMMANDS
            .iter()
            .filter(|command| command.common == common)
            .filter_map(|command| {
                let path = command.paths.iter().find(|path| path.len() == 1)?;
                Some((path[0], first_line(command.about)))
            })
            .collect();
        if !common {
            rows.sort_unstable();
        }
        listing(&rows)
    };
    let own = [("daemon", "Run the engine"), ("runtime", "Run the OCI runtime (runc's command line)")];
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA self-sufficient runtime for containers\n\n\
         Common Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nEngine Commands:\n{}\n\
         Global Options:\n{}\nRun '{program} COMMAND --help' for more information on a command.\n",
        top(true),
        listing(GROUPS),
        top(false),
        listing(&own),
        options(&global_flags().iter().collect::<Vec<_>>(), terminal::help_width()),
    )
}

/// The first sentence, for listings.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split(". ").next().unwrap_or_default().trim_end_matches('.')
}

fn listing(rows: &[(&str, &str)]) -> String {
    rows.iter().map(|(name, about)| format!("  {name:<12}{about}\n")).collect()
}

/// The flags in aligned columns, as pflag's `FlagUsagesWrapped(columns)` sets them.
pub(crate) fn options(flags: &[&Flag], columns: usize) -> String {
    let shown = flags.iter().filter(|flag| !flag.hidden);
    let rows: Vec<(String, String)> = shown.map(|flag| (left(flag), right(flag))).collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 1;
    rows.iter().map(|(left, right)| format!("{left:<width$}  {}\n", wrap(right, width + 2, columns))).collect()
}

fn left(flag: &Flag) -> String {
    let letter = flag.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    let hint = flag.kind.hint();
    let gap = if hint.is_empty() { "" } else { " " };
    format!("  {letter}--{}{gap}{hint}", flag.name)
}

fn right(flag: &Flag) -> String {
    match flag.default {
        "" => flag.usage.to_owned(),
        default => format!("{} (default {default})", flag.usage),
    }
}

/// pflag's `wrap`: breaks `text` to `columns`, further lines begin at `indent`.
fn wrap(text: &str, indent: usize, columns: usize) -> String {
    /// Below this the text is not worth a column of its own.
    const TIGHT: usize = 24;
    /// How far a last word may stick out rather than stand alone.
    const SLOP: usize = 5;
    let newline = format!("\n{}", " ".repeat(indent));
    if columns == 0 {
        return text.replace('\n', &newline);
    }
    let (mut indent, mut width, mut out) = (indent, columns.saturating_sub(indent), String::new());
    if width < TIGHT {
        indent = 16;
        width = columns.saturating_sub(indent);
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    }
    let newline = format!("\n{}", " ".repeat(indent));
    if width < TIGHT {
        return text.replace('\n', &newline);
    }
    let width = width - SLOP;
    let (line, mut rest) = wrap_once(width, SLOP, text);
    out.push_str(&line.replace('\n', &newline));
    while !rest.is_empty() {
        let (line, next) = wrap_once(width, SLOP, rest);
        out.push_str(&newline);
        out.push_str(&line.replace('\n', &newline));
        rest = next;
    }
    out
}

/// pflag's `wrapN`: the first line of at most `width` (a little more to finish the text), and the rest.
fn wrap_once(width: usize, slop: usize, text: &str) -> (&str, &str) {
    if width + slop > text.len() {
        return (text, "");
    }
    // The texts are ASCII but for a user's home directory, which may put a boundary elsewhere.
    let Some(window) = text.get(..width) else { return (text, "") };
    let Some(space) = window.rfind([' ', '\t', '\n']).filter(|at| *at > 0) else { return (text, "") };
    match window.rfind('\n').filter(|at| *at > 0 && *at < space) {
        Some(newline) => (&text[..newline], &text[newline + 1..]),
        None => (&text[..space], &text[space + 1..]),
    }
}
