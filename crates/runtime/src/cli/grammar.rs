//! The grammar of runc's command line: one or two dashes, `--flag value` or `--flag=value`, values of a kind.
//!
//! Flags of a command may come before and after its arguments, but for `exec` and `ps`, whose arguments are a command
//! line of their own: there the first argument ends the flags. What is wrong is told on standard output together with
//! the help, and once more as an error for whoever reads the log.

use super::flags::{COMMANDS, Command, GLOBAL};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing, or `=true` and `=false`.
    Switch,
    /// Any text. The last one counts.
    Text,
    /// Any text, any number of times.
    Texts,
    /// A whole number. The last one counts.
    Number,
    /// A whole number, any number of times.
    Numbers,
    /// A length of time: `5s`, `1m30s`, `500ms`.
    Duration,
}

/// A flag.
#[derive(Clone, Copy)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) kind: Kind,
    /// As the help shows it; empty for none.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
}

impl Flag {
    fn is(&self, name: &str) -> bool {
        self.name == name || self.short.is_some_and(|short| name.chars().eq([short]))
    }

    /// Whether the text is a value of this kind; the words of the message are those of runc's library.
    fn check(&self, called: &str, value: &str) -> Result<(), String> {
        let valid = match self.kind {
            Kind::Text | Kind::Texts => true,
            Kind::Number | Kind::Numbers => value.parse::<i64>().is_ok(),
            Kind::Duration => oci::go::parse_duration(value).is_ok(),
            Kind::Switch if boolean(value).is_some() => true,
            Kind::Switch => return Err(format!("invalid boolean value {value:?} for -{called}: parse error")),
        };
        if valid { Ok(()) } else { Err(format!("invalid value {value:?} for flag -{called}: parse error")) }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Flags and arguments as they were given.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    flags: Vec<(&'static str, String)>,
    pub(super) words: Vec<String>,
}

impl Parsed {
    /// The last value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// The same, and an empty text is none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// The last value of a number; the parser has checked that it is one.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.value(name).and_then(|value| value.parse().ok())
    }

    /// All values of a flag.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.value(name).and_then(boolean).unwrap_or(false)
    }

    /// The argument at a place; the parser has checked how many there are.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map(String::as_str).unwrap_or_default()
    }
}

/// What the command line asks for.
pub(super) enum Request {
    Help(Option<&'static Command>),
    Version,
    Run { global: Parsed, command: &'static Command, arguments: Parsed },
}

/// What is wrong with a command line.
#[derive(Debug)]
pub(super) struct Misuse {
    /// The sentence.
    pub(super) message: String,
    /// What goes before the help on standard output; without it no help is shown.
    pub(super) heading: Option<String>,
    /// Whose help is shown.
    pub(super) command: Option<&'static Command>,
    /// The flags before the command, when they were understood: they say where the log is.
    pub(super) global: Parsed,
    /// Exit code.
    pub(super) code: u8,
}

impl Misuse {
    fn unknown_command(name: &str, global: Parsed) -> Self {
        let message = format!("No help topic for '{name}'");
        // The exit code of runc's library for this one.
        Self { message, heading: None, command: None, global, code: 3 }
    }
}

/// Parses what follows the program's `name`.
pub(super) fn parse(name: &str, words: &[String]) -> Result<Request, Misuse> {
    let global = match parse_flags(GLOBAL, words, false) {
        Ok(Some(global)) => global,
        Ok(None) => return Ok(Request::Help(None)),
        Err(message) => {
            let heading = Some(format!("Incorrect Usage. {message}"));
            return Err(Misuse { message, heading, command: None, global: Parsed::default(), code: 1 });
        }
    };
    if global.is_set("version") {
        return Ok(Request::Version);
    }
    let Some((word, rest)) = global.words.split_first() else { return Ok(Request::Help(None)) };
    let find = |name: &str| COMMANDS.iter().find(|command| command.name == name);
    if word == "help" || word == "h" {
        return match rest.first().map(|name| (name, find(name))) {
            Some((name, None)) => Err(Misuse::unknown_command(&name.clone(), global)),
            found => Ok(Request::Help(found.and_then(|(_, command)| command))),
        };
    }
    let Some(command) = find(word) else { return Err(Misuse::unknown_command(&word.clone(), global)) };
    let misuse = |message: String, colon: &str, global: Parsed| {
        let heading = Some(format!("Incorrect Usage{colon}"));
        Misuse { message, heading, command: Some(command), global, code: 1 }
    };
    match parse_flags(command.flags, rest, command.flags_anywhere) {
        Ok(None) => Ok(Request::Help(Some(command))),
        Err(message) => {
            let colon = format!(": {message}");
            Err(misuse(message, &colon, global))
        }
        Ok(Some(arguments)) => match command.count(name, arguments.words.len()) {
            Ok(()) => Ok(Request::Run { global, command, arguments }),
            Err(message) => Err(misuse(message, ".", global)),
        },
    }
}

/// `None` when help is asked for.
fn parse_flags(flags: &'static [Flag], words: &[String], anywhere: bool) -> Result<Option<Parsed>, String> {
    let mut parsed = Parsed::default();
    let mut rest = words.iter();
    while let Some(word) = rest.as_slice().first() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|_| word != "-");
        let split = name.map(|name| name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value))));
        let flag = split.and_then(|(name, _)| flags.iter().find(|flag| flag.is(name)));
        let Some((name, inline)) = split.filter(|_| flag.is_some() || parsed.words.is_empty()) else {
            // An argument; what looks like a flag and is none is an argument too after the first one.
            if !anywhere {
                break;
            }
            parsed.words.extend(rest.next().cloned());
            continue;
        };
        rest.next();
        if name.is_empty() {
            break;
        }
        if name == "help" || name == "h" {
            return Ok(None);
        }
        let flag = flag.ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        let value = match (flag.kind, inline) {
            (_, Some(value)) => value.to_owned(),
            (Kind::Switch, None) => "true".to_owned(),
            (_, None) => rest.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?.clone(),
        };
        flag.check(name, &value)?;
        parsed.flags.push((flag.name, value));
    }
    parsed.words.extend_from_slice(rest.as_slice());
    Ok(Some(parsed))
}

/// The text of `--help`, for the program or one command.
pub(super) fn help(name: &str, command: Option<&Command>) -> String {
    let Some(command) = command else {
        let commands: Vec<(String, String)> = COMMANDS
            .iter()
            .map(|command| (command.name.to_owned(), command.help.to_owned()))
            .chain([("help, h".to_owned(), "shows a list of commands or help for one command".to_owned())])
            .collect();
        return format!(
            "NAME:\n   {name} - Open Container Initiative runtime\n\nUSAGE:\n   {name} [global options] command \
             [command options] [arguments...]\n\nCOMMANDS:\n{}\nGLOBAL OPTIONS:\n{}",
            columns(&commands),
            columns(&options(GLOBAL))
        );
    };
    let with = if command.flags.is_empty() { "" } else { "[command options] " };
    let options = match command.flags {
        [] => String::new(),
        flags => format!("\nOPTIONS:\n{}", columns(&options(flags))),
    };
    format!(
        "NAME:\n   {name} {} - {}\n\nUSAGE:\n   {name} {} {with}{}\n\nDESCRIPTION:\n{}\n{options}",
        command.name, command.help, command.name, command.usage, command.description
    )
}

fn options(flags: &[Flag]) -> Vec<(String, String)> {
    let line = |flag: &Flag| {
        let value = if flag.kind == Kind::Switch { "" } else { " value" };
        let short = flag.short.map(|short| format!(", -{short}{value}")).unwrap_or_default();
        let default = if flag.default.is_empty() { String::new() } else { format!(" (default: {})", flag.default) };
        (format!("--{}{value}{short}", flag.name), format!("{}{default}", flag.help))
    };
    flags.iter().map(line).collect()
}

fn columns(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or_default();
    rows.iter().map(|(left, right)| format!("   {left:<width$}  {right}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn run(text: &str) -> (Parsed, &'static Command, Parsed) {
        match parse("runc", &words(text)) {
            Ok(Request::Run { global, command, arguments }) => (global, command, arguments),
            Ok(_) => panic!("{text}: help"),
            Err(misuse) => panic!("{text}: {misuse:?}"),
        }
    }

    #[test]
    fn the_command_of_exec_is_its_own() {
        let (global, command, arguments) = run("--root /r -log=/l exec -t --env A=1 -e B=2 c sh -c -x");
        assert_eq!((global.value("root"), global.value("log"), command.name), (Some("/r"), Some("/l"), "exec"));
        assert!(arguments.is_set("tty"));
        assert_eq!(arguments.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(arguments.words, ["c", "sh", "-c", "-x"]);
    }

    #[test]
    fn flags_come_after_arguments_too() {
        let (_, _, arguments) = run("delete name --force");
        assert!(arguments.is_set("force"));
        let (_, _, arguments) = run("kill name --all -9");
        assert_eq!((arguments.is_set("all"), arguments.words), (true, words("name -9")));
        let (_, _, arguments) = run("update name --memory 5m -r -");
        assert_eq!((arguments.value("memory"), arguments.value("resources")), (Some("5m"), Some("-")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| parse("runc", &words(text)).err().unwrap();
        let flag = error("--foo");
        assert_eq!(flag.message, "flag provided but not defined: -foo");
        assert_eq!(flag.heading.as_deref(), Some("Incorrect Usage. flag provided but not defined: -foo"));
        assert_eq!(error("run").message, "runc: \"run\" requires exactly 1 argument(s)");
        assert_eq!(error("kill").message, "runc: \"kill\" requires a minimum of 1 argument(s)");
        assert_eq!(error("kill a b c").message, "runc: \"kill\" requires a maximum of 2 argument(s)");
        assert_eq!((error("frob").message.as_str(), error("frob").code), ("No help topic for 'frob'", 3));
        assert_eq!(error("run --pid-file").message, "flag needs an argument: -pid-file");
        let value = error("--root /x run --preserve-fds x a");
        assert_eq!(value.message, "invalid value \"x\" for flag -preserve-fds: parse error");
        assert_eq!(value.global.value("root"), Some("/x"));
        assert_eq!(error("run -d=no a").message, "invalid boolean value \"no\" for -d: parse error");
    }

    #[test]
    fn every_command_has_a_help_with_its_flags() {
        for command in COMMANDS {
            let text = help("runc", Some(command));
            assert!(command.flags.iter().all(|flag| text.contains(&format!("--{}", flag.name))), "{text}");
            assert!(help("runc", None).contains(command.help));
        }
    }
}
