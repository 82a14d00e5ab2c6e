//! Which capabilities a container's process gets: Docker's fourteen, changed by `--cap-add` and `--cap-drop`.

use crate::error::{Error, Result};

/// What a container has when nothing is said; the order is dockerd's.
pub(crate) const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The word for all of them.
const EVERY: &str = "ALL";

/// `net_admin`, `CAP_NET_ADMIN` → `CAP_NET_ADMIN`; `all` → `ALL`. Fails with `unknown capability: "CAP_X"`.
pub(crate) fn normalize(names: &[String]) -> Result<Vec<String>> {
    names
        .iter()
        .map(|name| {
            let upper = name.to_uppercase();
            if upper == EVERY {
                return Ok(upper);
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if sys::capability::names().contains(&full.as_str()) {
                Ok(full)
            } else {
                Err(Error::invalid(format!("unknown capability: {full:?}")))
            }
        })
        .collect()
}

/// The set a process gets. `held` says what this engine has itself: nobody can give more.
pub(crate) fn effective(
    add: &[String],
    drop: &[String],
    privileged: bool,
    held: impl Fn(usize) -> bool,
) -> Result<Vec<String>> {
    let add = normalize(add).map_err(|e| e.prefixed("invalid CapAdd"))?;
    let drop = normalize(drop).map_err(|e| e.prefixed("invalid CapDrop"))?;
    let all = sys::capability::names().iter().enumerate();
    let held: Vec<&str> = all.filter(|(bit, _)| held(*bit)).map(|(_, name)| *name).collect();
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name);
    let keep = |names: &[&str], without: &[String]| -> Vec<String> {
        names.iter().filter(|n| !has(without, n)).map(|n| (*n).to_owned()).collect()
    };
    Ok(match () {
        () if privileged => keep(&held, &[]),
        () if has(&add, EVERY) => keep(&held, &drop),
        () if has(&drop, EVERY) => add,
        () => {
            let mut set = keep(&DEFAULT, &drop);
            for name in add {
                if !has(&set, &name) {
                    set.push(name);
                }
            }
            set
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str], privileged: bool) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        effective(&own(add), &own(drop), privileged, |bit| bit != 24).unwrap()
    }

    #[test]
    fn additions_and_drops() {
        assert_eq!(of(&[], &[], false), DEFAULT);
        assert_eq!(of(&["net_admin"], &["MKNOD"], false).len(), 14);
        assert_eq!(of(&["SYS_TIME"], &["ALL"], false), ["CAP_SYS_TIME"]);
        assert_eq!(of(&["ALL"], &["CAP_SYS_ADMIN"], false).len(), 39);
        assert_eq!(of(&[], &["ALL"], true).len(), 40);
        let error = effective(&["foo".to_owned()], &[], false, |_| true).unwrap_err();
        assert_eq!(error.message(), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
    }
}
