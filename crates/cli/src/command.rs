//! The commands, a file for each verb or family of verbs.

pub(crate) mod attach;
pub(crate) mod container;
pub(crate) mod cp;
pub(crate) mod df;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod layers;
pub(crate) mod lifecycle;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod stats;
mod stream;
mod together;
pub(crate) mod transfer;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod volume;
