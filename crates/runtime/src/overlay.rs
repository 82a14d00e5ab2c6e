//! New file systems; those of overlay with their lower directories in the form that the kernel takes.
//!
//! There are two forms: `lowerdir=A:B`, an option like others and so of 255 bytes at most, and since Linux 6.5 an option
//! `lowerdir+=A` for each directory. A configuration can have either, whatever the kernel.

use std::os::fd::OwnedFd;
use std::path::Path;

use sys::mount;

/// fsconfig(2) takes no longer value.
const MAX_VALUE: usize = 255;

/// [`mount::new_filesystem`].
pub(crate) fn new_filesystem(
    fstype: &str,
    source: &Path,
    options: &[String],
    read_only: bool,
    attributes: u64,
) -> Result<OwnedFd, mount::Error> {
    let make = |options: &[String]| mount::new_filesystem(fstype, source, options, read_only, attributes);
    if fstype != "overlay" {
        return make(options);
    }
    if options.iter().any(|option| lower(option).is_some_and(|list| list.len() > MAX_VALUE)) {
        return make(&split(options));
    }
    match make(options) {
        Err(error) if error.operation.contains("lowerdir+") => make(&join(options)),
        made => made,
    }
}

fn lower(option: &str) -> Option<&str> {
    option.strip_prefix("lowerdir=")
}

/// One option for each directory. A backslash takes the meaning from the character behind it; directories behind two
/// colons hold data alone.
fn split(options: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for option in options {
        let Some(list) = lower(option) else {
            all.push(option.clone());
            continue;
        };
        let (mut directory, mut key) = (String::new(), "lowerdir+=");
        let mut characters = list.chars();
        let mut push = |directory: &mut String, key: &mut &'static str| match directory.is_empty() {
            true => *key = "datadir+=",
            false => all.push(format!("{key}{}", std::mem::take(directory))),
        };
        while let Some(character) = characters.next() {
            match character {
                ':' => push(&mut directory, &mut key),
                '\\' => directory.extend(characters.next()),
                other => directory.push(other),
            }
        }
        push(&mut directory, &mut key);
    }
    all
}

/// All directories in one option.
fn join(options: &[String]) -> Vec<String> {
    let (each, mut others): (Vec<&String>, Vec<&String>) =
        options.iter().partition(|option| option.starts_with("lowerdir+="));
    let escaped = |option: &&String| option.trim_start_matches("lowerdir+=").replace('\\', "\\\\").replace(':', "\\:");
    let list = format!("lowerdir={}", each.iter().map(escaped).collect::<Vec<_>>().join(":"));
    others.push(&list);
    others.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn one_form_becomes_the_other() {
        let one = strings(&["upperdir=/u", r"lowerdir=/a:/b\:c:/d\\e"]);
        let each = strings(&["upperdir=/u", "lowerdir+=/a", "lowerdir+=/b:c", r"lowerdir+=/d\e"]);
        assert_eq!(split(&one), each);
        assert_eq!(join(&each), one);
    }

    #[test]
    fn layers_of_data() {
        let split = split(&strings(&["lowerdir=/a:/b::/c::/d", "xino=off"]));
        assert_eq!(split, ["lowerdir+=/a", "lowerdir+=/b", "datadir+=/c", "datadir+=/d", "xino=off"]);
    }
}
