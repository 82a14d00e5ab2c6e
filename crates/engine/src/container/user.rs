//! `USER[:GROUP]` resolved against the container's own /etc/passwd and /etc/group.
//!
//! The files belong to whoever made the image: lines that make no sense are skipped, never trusted.

use crate::error::{Error, Result};

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// From the group file, for a user given by name or number; without the primary one.
    pub groups: Vec<u32>,
    /// Home directory, `/` when the file knows none.
    pub home: String,
}

/// Largest id that is accepted, as runc's library does.
const MAX_ID: u32 = i32::MAX as u32;

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        Some(PasswdLine {
            name: fields.first().copied().filter(|n| !n.is_empty())?,
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5).copied().unwrap_or("/"),
        })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        Some(GroupLine {
            name: fields.first().copied().filter(|n| !n.is_empty())?,
            gid: fields.get(2)?.parse().ok()?,
            members: fields.get(3).map(|m| m.split(',').collect()).unwrap_or_default(),
        })
    })
}

/// A number out of range is an error of its own; text is `None`.
fn number(text: &str) -> Result<Option<u32>> {
    match text.parse::<i64>() {
        Ok(value) if (0..=i64::from(MAX_ID)).contains(&value) => Ok(Some(value as u32)),
        Ok(_) => Err(Error::invalid(format!("uids and gids must be in range 0-{MAX_ID}"))),
        Err(_) => Ok(None),
    }
}

/// Resolves `spec` (empty is root).
pub(crate) fn resolve(spec: &str, passwd: &str, group: &str) -> Result<User> {
    let (user_text, group_text) = spec.split_once(':').unwrap_or((spec, ""));
    let uid = if user_text.is_empty() { Some(0) } else { number(user_text)? };
    let gid = if group_text.is_empty() { None } else { number(group_text)? };
    let line = passwd_lines(passwd).find(|line| match (user_text, uid) {
        ("", _) => line.uid == 0,
        (text, _) if line.name == text => true,
        (_, Some(uid)) => line.uid == uid,
        _ => false,
    });
    let mut user = User { home: "/".to_owned(), ..User::default() };
    let mut name = "";
    match (&line, uid) {
        (Some(line), _) => {
            (user.uid, user.gid) = (line.uid, line.gid);
            line.home.clone_into(&mut user.home);
            name = line.name;
        }
        (None, Some(uid)) => user.uid = uid,
        (None, None) => {
            return Err(Error::invalid(format!("unable to find user {user_text}: no matching entries in passwd file")));
        }
    }
    if !group_text.is_empty() {
        let found = group_lines(group).find(|line| line.name == group_text || gid == Some(line.gid));
        user.gid = match (found, gid) {
            (Some(line), _) => line.gid,
            (None, Some(gid)) => gid,
            (None, None) => {
                return Err(Error::invalid(format!(
                    "unable to find group {group_text}: no matching entries in group file"
                )));
            }
        };
    } else if !name.is_empty() {
        // Memberships count only when no group was named.
        user.groups = group_lines(group).filter(|line| line.members.contains(&name)).map(|line| line.gid).collect();
    }
    Ok(user)
}

/// Resolves `--group-add`.
pub(crate) fn additional_groups(names: &[String], group: &str) -> Result<Vec<u32>> {
    let mut ids: Vec<u32> = Vec::new();
    for name in names {
        let found = group_lines(group).find(|line| line.name == name || line.gid.to_string() == *name);
        let id = match found {
            Some(line) => line.gid,
            None => number(name)?.ok_or_else(|| {
                Error::invalid(format!("Unable to find group {name}: no matching entries in group file"))
            })?,
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:Web:/srv:/bin/false\n12:x:99:98::/twelve:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nweb:x:34:\naudio:x:29:web\n";

    fn of(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(spec, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn users_by_name_and_number() {
        assert_eq!(of(""), (0, 0, vec![10], "/root".into()));
        assert_eq!(of("web"), (33, 34, vec![10, 29], "/srv".into()));
        assert_eq!(of("33"), (33, 34, vec![10, 29], "/srv".into()));
        assert_eq!(of("12"), (99, 98, vec![], "/twelve".into()), "a name of digits wins over the number");
        assert_eq!(of("web:wheel"), (33, 10, vec![], "/srv".into()));
        assert_eq!(of("4242:4243"), (4242, 4243, vec![], "/".into()));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let text = |spec| resolve(spec, PASSWD, GROUP).unwrap_err().message().to_owned();
        assert_eq!(text("zork"), "unable to find user zork: no matching entries in passwd file");
        assert_eq!(text("0:zork"), "unable to find group zork: no matching entries in group file");
        assert_eq!(text("-1"), "uids and gids must be in range 0-2147483647");
        assert_eq!(additional_groups(&["audio".into(), "7".into(), "29".into()], GROUP).unwrap(), [29, 7]);
    }
}
