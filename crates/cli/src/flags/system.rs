//! The flags of the commands about the engine, volumes and networks.

use super::Kind::*;
use super::catalog::{TABLE_FORMAT, TEMPLATE_FORMAT};
use super::{Flag, flag};

/// `version`.
pub(super) const VERSION: &[Flag] = &[flag("format", Str, TEMPLATE_FORMAT).short('f')];

/// `info`.
pub(super) const INFO: &[Flag] = &[flag("format", Str, TEMPLATE_FORMAT).short('f')];

/// `events`.
pub(super) const EVENTS: &[Flag] = &[
    flag("filter", Filter, "Filter output based on conditions provided").short('f'),
    flag("format", Str, TEMPLATE_FORMAT),
    flag("since", Str, "Show all events created since timestamp"),
    flag("until", Str, "Stream events until this timestamp"),
];

/// `inspect`.
pub(super) const INSPECT: &[Flag] = &[
    flag("format", Str, TEMPLATE_FORMAT).short('f'),
    flag("size", Bool, "Display total file sizes if the type is container").short('s'),
    flag("type", Str, "Only inspect objects of the given type"),
];

/// `network ls`.
pub(super) const NETWORK_LS: &[Flag] = &[
    flag("filter", Filter, "Provide filter values (e.g. \"driver=bridge\")").short('f'),
    flag("format", Str, TABLE_FORMAT),
    flag("no-trunc", Bool, "Do not truncate the output"),
    flag("quiet", Bool, "Only display network IDs").short('q'),
];

/// `network inspect`.
pub(super) const NETWORK_INSPECT: &[Flag] = &[
    flag("format", Str, TEMPLATE_FORMAT).short('f'),
    flag("verbose", Bool, "Verbose output for diagnostics").short('v'),
];

/// `system df`.
pub(super) const SYSTEM_DF: &[Flag] =
    &[flag("format", Str, TABLE_FORMAT), flag("verbose", Bool, "Show detailed information on space usage").short('v')];

/// `system verify`.
pub(super) const SYSTEM_VERIFY: &[Flag] = &[flag("quiet", Bool, "Only display what is wrong").short('q')];

/// `system prune`.
pub(super) const SYSTEM_PRUNE: &[Flag] = &[
    flag("all", Bool, "Remove all unused images not just dangling ones").short('a'),
    flag("filter", Filter, "Provide filter values (e.g. \"label=<key>=<value>\")"),
    flag("force", Bool, "Do not prompt for confirmation").short('f'),
    flag("volumes", Bool, "Prune anonymous volumes"),
];

/// `volume create`.
pub(super) const VOLUME_CREATE: &[Flag] = &[
    flag("availability", Str, "Cluster Volume availability (\"active\", \"pause\", \"drain\")").default("\"active\""),
    flag("driver", Str, "Specify volume driver name").short('d').default("\"local\""),
    flag("group", Str, "Cluster Volume group (cluster volumes)"),
    flag("label", List, "Set metadata for a volume"),
    flag("limit-bytes", Bytes, "Minimum size of the Cluster Volume in bytes"),
    flag("opt", Map, "Set driver specific options").short('o').default("map[]"),
    flag("required-bytes", Bytes, "Maximum size of the Cluster Volume in bytes"),
    flag("scope", Str, "Cluster Volume access scope (\"single\", \"multi\")").default("\"single\""),
    flag("secret", Map, "Cluster Volume secrets").default("map[]"),
    flag("sharing", Str, "Cluster Volume access sharing (\"none\", \"readonly\", \"onewriter\", \"all\")")
        .default("\"none\""),
    flag("topology-preferred", List, "A topology that the Cluster Volume would be preferred in"),
    flag("topology-required", List, "A topology that the Cluster Volume must be accessible from"),
    flag("type", Str, "Cluster Volume access type (\"mount\", \"block\")").default("\"block\""),
];

/// `volume inspect`.
pub(super) const VOLUME_INSPECT: &[Flag] = &[flag("format", Str, TEMPLATE_FORMAT).short('f')];

/// `volume ls`.
pub(super) const VOLUME_LS: &[Flag] = &[
    flag("cluster", Bool, "Display only cluster volumes, and use cluster volume list formatting"),
    flag("filter", Filter, "Provide filter values (e.g. \"dangling=true\")").short('f'),
    flag("format", Str, TABLE_FORMAT),
    flag("quiet", Bool, "Only display volume names").short('q'),
];

/// `volume prune`.
pub(super) const VOLUME_PRUNE: &[Flag] = &[
    flag("all", Bool, "Remove all unused volumes, not just anonymous ones").short('a'),
    flag("filter", Filter, "Provide filter values (e.g. \"label=<label>\")"),
    flag("force", Bool, "Do not prompt for confirmation").short('f'),
];

/// `volume rm`.
pub(super) const VOLUME_RM: &[Flag] = &[flag("force", Bool, "Force the removal of one or more volumes").short('f')];
