//! What a configuration must be like before anything is made from it. Whatever is not supported is refused here, by
//! the name of its field.
//!
//! Every sentence begins with the JSON path of the field: `linux.devices[2].path: …`. Checks that need the machine
//! (files, other namespaces, the kernel's features) are made where the thing itself is made.

mod linux;
mod mapped;
mod process;

use std::fmt::Display;
use std::path::Path;

use oci::spec::{Hook, Mount, Spec};
use sys::namespace::Kinds;

use crate::error::{Error, Result};
use crate::mount_options::{Bind, MountOptions};

pub(crate) use linux::{intel_rdt, parameter_path};
pub(crate) use mapped::user as user_is_mapped;
pub(crate) use process::process;

fn invalid<T>(field: impl Display, message: impl Display) -> Result<T> {
    Err(Error::Spec(format!("{field}: {message}")))
}

/// Letters, digits and `_+-.`, and no name of a directory.
pub(crate) fn id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.bytes().all(allowed) {
        return Err(Error::InvalidId(id.to_owned()));
    }
    Ok(())
}

/// A configuration to make a container from.
pub(crate) fn spec(spec: &Spec) -> Result<()> {
    version(&spec.oci_version)?;
    let Some(linux) = &spec.linux else { return invalid("linux", "missing") };
    let Some(process) = &spec.process else { return invalid("process", "missing") };
    let kinds = linux::check(linux)?;
    if !kinds.contains(Kinds::USER) && !rustix::process::geteuid().is_root() {
        return invalid("linux.namespaces", "rootless container requires user namespaces");
    }
    names(spec, kinds)?;
    if let Some(root) = &spec.root {
        text("root.path", &root.path)?;
    }
    for key in spec.annotations.keys() {
        if key.is_empty() {
            return invalid("annotations", "a key is empty");
        }
    }
    mapped::ids(spec, linux)?;
    hooks(spec)?;
    self::process(process)
}

fn version(version: &str) -> Result<()> {
    if version.is_empty() {
        return invalid("ociVersion", "missing");
    }
    let mut numbers = version.split(['-', '+']).next().unwrap_or_default().split('.');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    // 1.x of any kind: a newer version only adds fields, and says that unknown ones are to be ignored.
    if numbers.next() == Some("1") && is_number(numbers.next()) && is_number(numbers.next()) {
        return Ok(());
    }
    invalid("ociVersion", format!("{version:?} is not supported, 1.x.y is"))
}

/// `sethostname` and `setdomainname` take this many bytes.
const MAX_NAME: usize = 64;

fn names(spec: &Spec, kinds: Kinds) -> Result<()> {
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if !kinds.contains(Kinds::UTS) {
            return invalid(field, format!("unable to set {field} without a private UTS namespace"));
        }
        if name.len() > MAX_NAME {
            return invalid(field, format!("longer than {MAX_NAME} bytes"));
        }
        text(field, name)?;
    }
    Ok(())
}

/// What goes to the kernel as a C string.
fn text(field: impl Display, value: &str) -> Result<()> {
    if value.contains('\0') { invalid(field, "contains a NUL byte") } else { Ok(()) }
}

fn absolute(field: impl Display, path: &str) -> Result<()> {
    if path.is_empty() {
        return invalid(field, "missing");
    }
    if !Path::new(path).is_absolute() {
        return invalid(field, format!("{path:?} is not an absolute path"));
    }
    text(field, path)
}

fn hooks(spec: &Spec) -> Result<()> {
    let Some(all) = &spec.hooks else { return Ok(()) };
    let kinds: [(&str, &[Hook]); 6] = [
        ("prestart", &all.prestart),
        ("createRuntime", &all.create_runtime),
        ("createContainer", &all.create_container),
        ("startContainer", &all.start_container),
        ("poststart", &all.poststart),
        ("poststop", &all.poststop),
    ];
    for (kind, hooks) in kinds {
        for (index, hook) in hooks.iter().enumerate() {
            let field = |name: &str| format!("hooks.{kind}[{index}].{name}");
            absolute(field("path"), &hook.path)?;
            hook.args.iter().try_for_each(|word| text(field("args"), word))?;
            hook.env.iter().try_for_each(|word| text(field("env"), word))?;
            if let Some(timeout) = hook.timeout.filter(|timeout| *timeout <= 0) {
                return invalid(field("timeout"), format!("{timeout} is not greater than zero"));
            }
        }
    }
    Ok(())
}

/// The options of a mount, sorted and checked against its other fields.
pub(crate) fn mount(spec: &Spec, index: usize) -> Result<MountOptions> {
    let Some(mount) = spec.mounts.get(index) else { return Ok(MountOptions::default()) };
    let field = |name: &str| format!("mounts[{index}].{name}");
    let destination = &mount.destination;
    if destination.is_empty() {
        return invalid(field("destination"), "missing");
    }
    let kind = mount.kind.as_deref().unwrap_or_default();
    let source = mount.source.as_deref().unwrap_or_default();
    text(field("destination"), destination)?;
    text(field("type"), kind)?;
    text(field("source"), source)?;
    mount.options.iter().try_for_each(|word| text(field("options"), word))?;
    let mut options = MountOptions::parse(&mount.options);
    if kind == "bind" && options.bind.is_none() {
        options.bind = Some(Bind::Alone);
    }
    if options.remount {
        if options.copy_up || options.id_mapped.is_some() {
            return invalid(
                field("options"),
                format!("{destination:?}: a remount can be neither copied nor id-mapped"),
            );
        }
    } else if options.bind.is_some() {
        if source.is_empty() {
            return invalid(field("source"), format!("missing for the bind mount at {destination:?}"));
        }
        if let Some(word) = options.data.first() {
            return invalid(
                field("options"),
                format!("{word:?}: bind mounts cannot have any filesystem-specific options applied"),
            );
        }
        if let Some(word) = options.filesystem.first() {
            return invalid(
                field("options"),
                format!("{word:?}: a flag of a file system, which a bind mount does not change"),
            );
        }
    } else if kind.is_empty() {
        return invalid(field("type"), format!("missing for the mount at {destination:?}"));
    }
    if options.copy_up && (kind != "tmpfs" || options.bind.is_some()) {
        return invalid(field("options"), format!("\"tmpcopyup\": {destination:?} is no tmpfs"));
    }
    id_mapping(spec, mount, &field, &mut options)?;
    Ok(options)
}

fn id_mapping(spec: &Spec, mount: &Mount, field: &dyn Fn(&str) -> String, options: &mut MountOptions) -> Result<()> {
    let explicit = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if explicit && options.id_mapped.is_none() {
        options.id_mapped = Some(false);
    }
    if options.id_mapped.is_none() {
        return Ok(());
    }
    if options.bind.is_none() {
        return invalid(field("options"), "only bind mounts can be id-mapped");
    }
    if explicit && mount.uid_mappings.is_empty() {
        return invalid(field("uidMappings"), "missing beside gidMappings");
    }
    if explicit && mount.gid_mappings.is_empty() {
        return invalid(field("gidMappings"), "missing beside uidMappings");
    }
    if !explicit && spec.namespace("user").is_none() {
        return invalid(
            field("uidMappings"),
            "an id-mapped mount needs uidMappings and gidMappings, or a user namespace whose mappings it can take",
        );
    }
    linux::id_map(&field("uidMappings"), &mount.uid_mappings)?;
    linux::id_map(&field("gidMappings"), &mount.gid_mappings)
}
