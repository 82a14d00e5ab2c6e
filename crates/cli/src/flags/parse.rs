//! Words to values. clap splits them; what differs from it in Docker's grammar (texts of errors, `--flag=false`) is added here.

use super::help::usage;
use super::{Args, Command, Flag, Kind, Values, global_flags};
use crate::error::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction};
use std::ffi::OsString;

/// The name under which clap keeps the words that are no flags. No flag may be called so.
const WORDS: &str = "WORDS";

/// What a command line says.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Values, and the words behind the flags.
    Call(Values, Vec<String>),
    /// `--help`; with `-h` Docker says first that it is deprecated.
    Help { deprecated: bool },
}

/// Reads the words after a command's name. `called` is how it was named, `container run`.
pub(crate) fn parse(program: &str, command: &Command, called: &str, words: &[String]) -> Result<Parsed, Error> {
    let flags: Vec<Flag> = command.all_flags().into_iter().copied().collect();
    let form = || usage(program, command, called);
    let wrong = |text: String| Error::Usage {
        text,
        usage: form(),
        hint: format!("Run '{program} {called} --help' for more information"),
        code: 125,
    };
    let parsed = split(&flags, words, command.passes_on).map_err(wrong)?;
    let Parsed::Call(values, rest) = parsed else { return Ok(parsed) };
    if let Some(text) = wrong_count(command.args, rest.len()) {
        // Docker's own rule for "at least" has kept the older form of the hint.
        let verb = if matches!(command.args, Args::AtLeast(_)) { "See" } else { "Run" };
        return Err(Error::Usage {
            text: format!("{program}: '{program} {called}' {text}"),
            usage: form(),
            hint: format!("{verb} '{program} {called} --help' for more information"),
            code: 1,
        });
    }
    Ok(Parsed::Call(values, rest))
}

/// Reads the flags before the command; the words that are left begin with its name.
pub(crate) fn parse_global(program: &str, words: &[String]) -> Result<Parsed, Error> {
    split(&global_flags(), words, true).map_err(|text| Error::Usage {
        text,
        usage: format!("{program} [OPTIONS] COMMAND [ARG...]"),
        hint: format!("Run '{program} --help' for more information"),
        code: 125,
    })
}

fn wrong_count(args: Args, count: usize) -> Option<String> {
    let plural = |number: usize| if number == 1 { "argument" } else { "arguments" };
    match args {
        Args::None if count > 0 => Some("accepts no arguments".into()),
        Args::Exactly(number) if count != number => Some(format!("requires {number} {}", plural(number))),
        Args::AtLeast(number) if count < number => Some(format!("requires at least {number} {}", plural(number))),
        Args::AtMost(number) if count > number => Some(format!("requires at most {number} {}", plural(number))),
        Args::Between(low, high) if count < low || count > high => {
            Some(format!("requires at least {low} and at most {high} {}", plural(high)))
        }
        _ => None,
    }
}

fn split(flags: &[Flag], words: &[String], passes_on: bool) -> Result<Parsed, String> {
    let mut parser = clap::Command::new("gantry")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .arg(Arg::new(WORDS).num_args(0..).action(ArgAction::Append).trailing_var_arg(passes_on));
    let own_help = flags.iter().any(|flag| flag.name == "help");
    let letter_h = flags.iter().any(|flag| flag.short == Some('h'));
    for flag in flags {
        parser = parser.arg(argument(flag));
    }
    if !own_help {
        parser = parser.arg(argument(&super::flag("help", Kind::Bool, "Print usage")));
    }
    if !letter_h {
        parser = parser.arg(Arg::new("-h").short('h').action(ArgAction::SetTrue));
    }
    let mut matches = match parser.try_get_matches_from(words.iter().map(OsString::from)) {
        Ok(matches) => matches,
        Err(error) => return Err(explain(&error, words)),
    };
    let short_help = !letter_h && matches.get_flag("-h");
    let mut values = Values::default();
    for flag in flags {
        let given: Vec<String> = matches.remove_many(flag.name).into_iter().flatten().collect();
        for value in given {
            values
                .add(flag, &value)
                .map_err(|why| format!("invalid argument \"{value}\" for \"{}\" flag: {why}", flag.display()))?;
        }
    }
    let help = if own_help { values.on("help") } else { matches.contains_id("help") };
    if help || short_help {
        return Ok(Parsed::Help { deprecated: short_help });
    }
    Ok(Parsed::Call(values, matches.remove_many(WORDS).into_iter().flatten().collect()))
}

fn argument(flag: &Flag) -> Arg {
    let mut argument = Arg::new(flag.name).long(flag.name).action(ArgAction::Append);
    if let Some(letter) = flag.short {
        argument = argument.short(letter);
    }
    if let Some(alias) = flag.alias {
        argument = argument.alias(alias);
    }
    if flag.kind == Kind::Bool {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument.num_args(1).allow_hyphen_values(true)
    }
}

/// clap's error in the words of Docker's flag library.
fn explain(error: &clap::Error, words: &[String]) -> String {
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    // clap shows an argument with its value's name: `--name <name>`, `-e, --env <env>`.
    let first = named.split([' ', '=']).next().unwrap_or_default().trim_end_matches(',').to_owned();
    let cluster = |letter: char| {
        let clusters = |word: &&String| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
        words.iter().find(clusters).cloned().unwrap_or_else(|| format!("-{letter}"))
    };
    let letter = first.strip_prefix('-').filter(|rest| !rest.starts_with('-')).and_then(|rest| rest.chars().next());
    match error.kind() {
        ErrorKind::UnknownArgument => match letter {
            Some(letter) => format!("unknown shorthand flag: '{letter}' in {}", cluster(letter)),
            None => format!("unknown flag: {first}"),
        },
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            // The flag that lacks its value is always the last word.
            let last = words.last().cloned().unwrap_or_default();
            match last.strip_prefix("--") {
                Some(_) => format!("flag needs an argument: {last}"),
                None => format!("flag needs an argument: '{}' in {last}", last.chars().last().unwrap_or_default()),
            }
        }
        _ => error.render().to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::find;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn call(line: &str) -> (Values, Vec<String>) {
        let words = words(line);
        let (command, used) = find(&words).unwrap();
        match parse("docker", command, &words[..used].join(" "), &words[used..]).unwrap() {
            Parsed::Call(values, rest) => (values, rest),
            Parsed::Help { .. } => panic!("help"),
        }
    }

    fn refused(line: &str) -> String {
        let words = words(line);
        let (command, used) = find(&words).unwrap();
        parse("docker", command, &words[..used].join(" "), &words[used..]).unwrap_err().to_string()
    }

    #[test]
    fn flags_end_at_the_image() {
        let (values, rest) = call("run -itd --rm=false -eA=1 -e B=2 --name -x busybox ls -l --all -- -d");
        assert!(values.on("interactive") && values.on("tty") && values.on("detach") && !values.on("rm"));
        assert_eq!(values.list("env"), ["A=1", "B=2"]);
        assert_eq!(values.text("name"), "-x");
        assert_eq!(rest, ["busybox", "ls", "-l", "--all", "--", "-d"]);
        let (_, rest) = call("run -- busybox -x");
        assert_eq!(rest, ["busybox", "-x"]);
    }

    #[test]
    fn flags_may_stand_between_words_elsewhere() {
        let (values, rest) = call("rm a -f b -v");
        assert!(values.on("force") && values.on("volumes"));
        assert_eq!(rest, ["a", "b"]);
        assert_eq!(call("container run --net=host --memory-swap -1 x").0.int("memory-swap"), -1);
    }

    #[test]
    fn errors_are_in_dockers_words() {
        let cases = [
            ("run --bogus x", "unknown flag: --bogus"),
            ("run --bogus=1 x", "unknown flag: --bogus"),
            ("run -xit x", "unknown shorthand flag: 'x' in -xit"),
            ("run --name", "flag needs an argument: --name"),
            ("run -e", "flag needs an argument: 'e' in -e"),
            ("run -ite", "flag needs an argument: 'e' in -ite"),
            (
                "run --cpus=foo x",
                "invalid argument \"foo\" for \"--cpus\" flag: failed to parse foo as a rational number",
            ),
            ("run -m abc x", "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'"),
            (
                "run --rm=maybe x",
                "invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("run", "docker: 'docker run' requires at least 1 argument"),
            ("ps extra", "docker: 'docker ps' accepts no arguments"),
            ("rename a", "docker: 'docker rename' requires 2 arguments"),
            ("container rm", "docker: 'docker container rm' requires at least 1 argument"),
        ];
        for (line, expected) in cases {
            assert_eq!(refused(line).lines().next().unwrap(), expected, "{line}");
        }
        assert_eq!(
            refused("run"),
            "docker: 'docker run' requires at least 1 argument\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n\
             See 'docker run --help' for more information"
        );
    }

    #[test]
    fn the_table_is_sound() {
        for command in super::super::COMMANDS {
            let flags: Vec<Flag> = command.all_flags().into_iter().copied().collect();
            split(&flags, &[], command.passes_on).unwrap();
            assert!(flags.windows(2).all(|pair| pair[0].name != pair[1].name), "{:?}", command.paths[0]);
        }
        assert!(parse_global("docker", &words("-H unix:///x -D ps -a")).is_ok());
    }
}
