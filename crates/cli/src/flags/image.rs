//! The flags of the commands about images and registries.

use super::Kind::*;
use super::catalog::{TABLE_FORMAT, TEMPLATE_FORMAT};
use super::{Flag, flag};

/// `images`.
pub(super) const IMAGES: &[Flag] = &[
    flag("all", Bool, "Show all images (default hides intermediate images)").short('a'),
    flag("digests", Bool, "Show digests"),
    flag("filter", Filter, "Filter output based on conditions provided").short('f'),
    flag("format", Str, TABLE_FORMAT),
    flag("no-trunc", Bool, "Don't truncate output"),
    flag("quiet", Bool, "Only show image IDs").short('q'),
    flag("tree", Bool, "List multi-platform images as a tree (EXPERIMENTAL)"),
];

/// `image copy`.
pub(super) const COPY: &[Flag] = &[
    flag("platform", Str, "Copy only the image for this platform ('os[/arch[/variant]]'), without its index"),
    flag("quiet", Bool, "Suppress verbose output").short('q'),
];

/// `pull`.
pub(super) const PULL: &[Flag] = &[
    flag("all-platforms", Bool, "Keep the images for all platforms, so that a push sends the index whole").own(),
    flag("all-tags", Bool, "Download all tagged images in the repository").short('a'),
    flag("disable-content-trust", Bool, "Skip image verification").default("true"),
    flag("platform", Str, "Set platform if server is multi-platform capable"),
    flag("quiet", Bool, "Suppress verbose output").short('q'),
];

/// `push`.
pub(super) const PUSH: &[Flag] = &[
    flag("all-tags", Bool, "Push all tags of an image to the repository").short('a'),
    flag("disable-content-trust", Bool, "Skip image signing").default("true"),
    flag(
        "platform",
        Str,
        "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    flag("quiet", Bool, "Suppress verbose output").short('q'),
];

/// `history`.
pub(super) const HISTORY: &[Flag] = &[
    flag("format", Str, TABLE_FORMAT),
    flag("human", Bool, "Print sizes and dates in human readable format").short('H').default("true"),
    flag("no-trunc", Bool, "Don't truncate output"),
    flag(
        "platform",
        Str,
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    flag("quiet", Bool, "Only show image IDs").short('q'),
];

/// `import`.
pub(super) const IMPORT: &[Flag] = &[
    flag("change", List, "Apply Dockerfile instruction to the created image").short('c'),
    flag("message", Str, "Set commit message for imported image").short('m'),
    flag("platform", Str, "Set platform if server is multi-platform capable"),
];

/// `load`.
pub(super) const LOAD: &[Flag] = &[
    flag("input", Str, "Read from tar archive file, instead of STDIN").short('i'),
    flag(
        "platform",
        Str,
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    flag("quiet", Bool, "Suppress the load output").short('q'),
];

/// `rmi`.
pub(super) const RMI: &[Flag] = &[
    flag("force", Bool, "Force removal of the image").short('f'),
    flag("no-prune", Bool, "Do not delete untagged parents"),
    flag(
        "platform",
        Strings,
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

/// `save`.
pub(super) const SAVE: &[Flag] = &[
    flag("output", Str, "Write to a file, instead of STDOUT").short('o'),
    flag(
        "platform",
        Str,
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

/// `search`.
pub(super) const SEARCH: &[Flag] = &[
    flag("filter", Filter, "Filter output based on conditions provided").short('f'),
    flag("format", Str, "Pretty-print search using a Go template"),
    flag("limit", Int, "Max number of search results"),
    flag("no-trunc", Bool, "Don't truncate output"),
];

/// `commit`.
pub(super) const COMMIT: &[Flag] = &[
    flag("author", Str, "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
    flag("change", List, "Apply Dockerfile instruction to the created image").short('c'),
    flag("message", Str, "Commit message").short('m'),
    flag("pause", Bool, "Pause container during commit").short('p').default("true"),
];

/// `login`.
pub(super) const LOGIN: &[Flag] = &[
    flag("password", Str, "Password or Personal Access Token (PAT)").short('p'),
    flag("password-stdin", Bool, "Take the Password or Personal Access Token (PAT) from stdin"),
    flag("username", Str, "Username").short('u'),
];

/// `image inspect`.
pub(super) const IMAGE_INSPECT: &[Flag] = &[
    flag("format", Str, TEMPLATE_FORMAT).short('f'),
    flag(
        "platform",
        Str,
        "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
];

/// `image layers`.
pub(super) const IMAGE_LAYERS: &[Flag] = &[
    flag("files", Bool, "List the files that each layer adds, changes and removes"),
    flag("format", Str, TABLE_FORMAT),
    flag("no-trunc", Bool, "Do not truncate the output"),
    flag("quiet", Bool, "Only display diff IDs").short('q'),
    flag("wasted", Bool, "List the files that a later layer replaces or removes"),
];

/// `image squash`.
pub(super) const IMAGE_SQUASH: &[Flag] =
    &[flag("from", Str, "Keep the layers of this image as they are, and squash only those above")];

/// `image prune`.
pub(super) const IMAGE_PRUNE: &[Flag] = &[
    flag("all", Bool, "Remove all unused images, not just dangling ones").short('a'),
    flag("filter", Filter, "Provide filter values (e.g. \"until=<timestamp>\")"),
    flag("force", Bool, "Do not prompt for confirmation").short('f'),
];
