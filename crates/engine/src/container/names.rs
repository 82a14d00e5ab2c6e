//! Names of containers: what is allowed, and what is made up when the user gives none.

use crate::error::{Error, Result};

/// How a name must look, as Docker prints it.
pub(crate) const ALLOWED: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// How many random draws are made before a digit is appended.
pub(crate) const MAX_DRAWS: usize = 6;

/// Checks a name given by the user and strips the one slash it may begin with.
pub(crate) fn validate(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let bytes = bare.as_bytes();
    // Two characters at least: a single letter would read like the start of an id.
    let valid = bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes[1..].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if valid {
        Ok(bare)
    } else {
        Err(Error::invalid(format!("Invalid container name ({name}), only {ALLOWED} are allowed")))
    }
}

/// `adjective_surname` for these random numbers; from the sixth draw on with a digit, so that the search ends.
pub(crate) fn generated(random: u64, draw: usize) -> String {
    let adjective = ADJECTIVES[(random % ADJECTIVES.len() as u64) as usize];
    let rest = random / ADJECTIVES.len() as u64;
    let surname = SURNAMES[(rest % SURNAMES.len() as u64) as usize];
    let rest = rest / SURNAMES.len() as u64;
    match draw {
        0..MAX_DRAWS => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", rest % 10_u64.pow((draw - MAX_DRAWS + 1).min(9) as u32)),
    }
}

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "ample", "ardent", "blissful", "bold", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "careful", "cheerful", "clever", "cordial", "cosmic", "crisp", "curious", "daring", "deft", "dreamy",
    "eager", "earnest", "elegant", "fair", "fearless", "fervent", "fine", "frank", "fresh", "friendly", "gallant",
    "gentle", "gifted", "glad", "golden", "graceful", "happy", "hardy", "honest", "hopeful", "humble", "jolly",
    "jovial", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mindful", "modest", "neat", "nimble",
    "noble", "patient", "peaceful", "placid", "playful", "polite", "proud", "quick", "quiet", "ready", "relaxed",
    "serene", "sharp", "silent", "sincere", "smart", "steady", "stoic", "sunny", "swift", "tender", "thrifty", "tidy",
    "upbeat", "vibrant", "vigilant", "vivid", "warm", "wise", "witty", "zealous", "zen",
];

const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "allen",
    "ampere",
    "archimedes",
    "babbage",
    "bardeen",
    "bell",
    "bernoulli",
    "bessel",
    "bohr",
    "boole",
    "born",
    "bose",
    "brahe",
    "brahmagupta",
    "carson",
    "cauchy",
    "cerf",
    "chandrasekhar",
    "chebyshev",
    "church",
    "cori",
    "coulomb",
    "cray",
    "curie",
    "darwin",
    "dijkstra",
    "dirac",
    "easley",
    "einstein",
    "engelbart",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fibonacci",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "goldberg",
    "goodall",
    "hamilton",
    "heisenberg",
    "hertz",
    "herschel",
    "hilbert",
    "hodgkin",
    "hooke",
    "hopper",
    "hubble",
    "huygens",
    "hypatia",
    "jacobi",
    "johnson",
    "joule",
    "kelvin",
    "kepler",
    "khwarizmi",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "leavitt",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mccarthy",
    "mcclintock",
    "meitner",
    "mendel",
    "mendeleev",
    "minsky",
    "mirzakhani",
    "napier",
    "nash",
    "neumann",
    "newton",
    "nightingale",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "perlman",
    "planck",
    "poincare",
    "ptolemy",
    "raman",
    "ramanujan",
    "ride",
    "riemann",
    "ritchie",
    "rubin",
    "rutherford",
    "schroedinger",
    "shannon",
    "sutherland",
    "tereshkova",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "vaughan",
    "volta",
    "watt",
    "wiles",
    "wirth",
    "wu",
    "yonath",
    "zuse",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "/ab", "a.b_c-d", "0x", "A1"] {
            assert_eq!(validate(good).unwrap(), good.trim_start_matches('/'));
        }
        for bad in ["", "/", "a", "/a/b", "_a", ".a", "-a", "a b", "ä1", "//ab", "a\n"] {
            let error = validate(bad).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::InvalidParameter);
            assert_eq!(
                error.message(),
                format!("Invalid container name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            );
        }
    }

    #[test]
    fn generated_names_are_valid_and_spread() {
        let names: std::collections::BTreeSet<_> =
            (0..2000u64).map(|n| generated(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0)).collect();
        assert!(names.len() > 1500, "{}", names.len());
        for name in &names {
            validate(name).unwrap();
            assert!(name.split_once('_').is_some());
        }
        assert!(generated(u64::MAX, 7).ends_with(|c: char| c.is_ascii_digit()));
    }
}
