//! Extended attributes with as much room as they need.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// What the kernel allows for one value and for the list of names.
const MAX_LENGTH: usize = 64 << 10;

/// The value of an attribute of `path` itself (a link is not followed); `None` when there is none, or when the file
/// system has no attributes.
pub fn get(path: &Path, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < MAX_LENGTH => value.resize(MAX_LENGTH, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sets an attribute of `path` itself.
pub fn set(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

/// Sets an attribute of an open file.
pub fn set_open(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
}

/// The names of the attributes of `path` itself.
pub fn list(path: &Path) -> io::Result<Vec<CString>> {
    let mut names = vec![0; 1024];
    loop {
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(length) => {
                names.truncate(length);
                return Ok(split(&names));
            }
            Err(Errno::RANGE) if names.len() < MAX_LENGTH => names.resize(MAX_LENGTH, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn split(names: &[u8]) -> Vec<CString> {
    names.split_inclusive(|byte| *byte == 0).filter_map(|name| CString::from_vec_with_nul(name.to_vec()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_and_lists() {
        let path = std::env::temp_dir().join(format!("sys-xattr-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let value = vec![7; 2000];
        set(&path, c"trusted.a", &value).unwrap();
        set(&path, c"trusted.b", b"").unwrap();
        let found = (get(&path, c"trusted.a").unwrap(), get(&path, c"trusted.c").unwrap(), list(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found.0, Some(value));
        assert_eq!(found.1, None);
        assert!(found.2.contains(&c"trusted.a".to_owned()) && found.2.contains(&c"trusted.b".to_owned()));
    }
}
