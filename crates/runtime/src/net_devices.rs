//! Network devices of the host that go into the container (`linux.netDevices`).
//!
//! A netlink socket belongs to the network namespace that it was opened in. So one process that opens a socket here,
//! enters the container's namespace and opens another there can talk to both; it is a clone of the caller, and has the
//! caller's rights in either.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use oci::spec::NetDevice;
use rustix::fs::{Mode, OFlags};
use sys::clone;
use sys::namespace::{self, Kinds};
use sys::netlink::address::{self, Permanent};
use sys::netlink::{Family, Socket, link};

use crate::channel::{Channel, Message};
use crate::error::{Error, Result, Stage};
use crate::failure::plain;
use crate::plan::system;

/// A device that is to be moved.
struct Device<'a> {
    name: &'a str,
    /// What it is called inside; one `%d` stands for the first free number.
    new_name: &'a str,
    index: u32,
    addresses: Vec<Permanent>,
}

/// Moves the devices into the network namespace of a process, with their addresses, and sets them up.
pub(crate) fn move_to(devices: &BTreeMap<String, NetDevice>, pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let target = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| system(path.as_str(), errno))?;
    let inode = |path: &str| rustix::fs::stat(path).map(|stat| stat.st_ino).ok();
    if inode(&path) == inode("/proc/self/ns/net") {
        return Err(Error::Spec(
            "linux.netDevices: the network namespace of the container is the one they are in".into(),
        ));
    }
    let (ours, theirs) = Channel::pair().map_err(|error| system("socketpair", error))?;
    let child = clone::spawn(&clone::Options::default(), move || match work(devices, &target) {
        Ok(()) => 0,
        Err(message) => {
            let _ = theirs.fail(Stage::Settings, message, None);
            1
        }
    })
    .map_err(|error| system("clone", error))?;
    let said = ours.receive();
    let end = sys::pidfd::reap(child.pidfd.as_fd()).map_err(|error| system("moving network devices", error))?;
    match (end, said) {
        (sys::pidfd::End::Exited(0), _) => Ok(()),
        (_, Ok(Some((Message::Failed { message, .. }, _)))) => Err(Error::Spec(message)),
        _ => Err(Error::Spec("linux.netDevices: the process that moves them ended".into())),
    }
}

fn work(devices: &BTreeMap<String, NetDevice>, target: &OwnedFd) -> std::result::Result<(), String> {
    let general = |error: sys::netlink::Error| format!("linux.netDevices: {error}");
    let mut host = Socket::open(Family::Route).map_err(general)?;
    let mut found = Vec::with_capacity(devices.len());
    for (name, device) in devices {
        let at = |error: sys::netlink::Error| format!("linux.netDevices[{name:?}]: {error}");
        let Some(link) = link::by_name(&mut host, name).map_err(at)? else {
            return Err(format!("linux.netDevices[{name:?}]: no such network device"));
        };
        let addresses = address::permanent(&mut host, link.index).map_err(at)?;
        let new_name = device.name.as_deref().filter(|new| !new.is_empty()).unwrap_or(name);
        found.push(Device { name, new_name, index: link.index, addresses });
    }
    namespace::enter(target.as_fd(), Kinds::NETWORK)
        .map_err(|error| format!("linux.netDevices: entering the network namespace: {}", plain(&error)))?;
    let mut inside = Socket::open(Family::Route).map_err(general)?;
    let present = link::list(&mut inside).map_err(general)?;
    // All that can be known is checked before the first one is moved, since there is no way back for most.
    if let Some(device) = found.iter().find(|device| present.iter().any(|link| link.name == device.new_name)) {
        let text = "the network namespace of the container has a device of this name already";
        return Err(format!("linux.netDevices[{:?}].name: {:?}: {text}", device.name, device.new_name));
    }
    let mut known: BTreeSet<u32> = present.iter().map(|link| link.index).collect();
    for device in found {
        let at = |error: sys::netlink::Error| format!("linux.netDevices[{:?}]: {error}", device.name);
        host.request(&[link::move_to(device.index, target.as_fd(), device.new_name)]).map_err(at)?;
        // Its number may be another one now.
        let moved = link::list(&mut inside).map_err(at)?.into_iter().find(|link| known.insert(link.index));
        let moved = moved.ok_or_else(|| format!("linux.netDevices[{:?}]: did not arrive", device.name))?;
        let addresses = device.addresses.iter().map(|address| address::restore(moved.index, address));
        let requests: Vec<_> = addresses.chain([link::set_up(moved.index)]).collect();
        inside.request(&requests).map_err(at)?;
    }
    Ok(())
}
