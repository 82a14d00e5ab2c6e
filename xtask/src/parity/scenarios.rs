//! Every endpoint and every error of the API that this engine serves, as requests in an order that makes sense.

mod archive;
mod attach;
mod containers;
mod errors;
mod events;
mod exec;
mod images;
mod networks;
mod options;
mod registry;
mod system;
mod versions;
mod volumes;

use super::observe::Side;

/// A scenario by its name.
type Scenario = (&'static str, fn(&mut Side));

/// All of them. Each makes what it needs and names things after itself, so that any of them can run alone.
pub(super) const ALL: &[Scenario] = &[
    ("system", system::run),
    ("container", containers::run),
    ("container options", options::run),
    ("container errors", errors::run),
    ("attach and logs", attach::run),
    ("exec", exec::run),
    ("archive", archive::run),
    ("image", images::run),
    ("registry", registry::run),
    ("volume", volumes::run),
    ("network", networks::run),
    ("event", events::run),
    ("version", versions::run),
];
