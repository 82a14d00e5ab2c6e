//! Text from values: templates, tables, and how Docker writes sizes and times.

pub(crate) mod go;
pub(crate) mod human;
pub(crate) mod row;
pub(crate) mod table;
pub(crate) mod template;

use std::cmp::Ordering;

/// Order in which `a9` stands before `a10`: Docker's order of names.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count_a, count_b) = (digits(a), digits(b));
        if count_a > 0 && count_b > 0 {
            let (number_a, number_b) = (a[..count_a].trim_start_matches('0'), b[..count_b].trim_start_matches('0'));
            let order =
                number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b)).then(count_a.cmp(&count_b));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[count_a..], &b[count_b..]);
            continue;
        }
        let (mut chars_a, mut chars_b) = (a.chars(), b.chars());
        match (chars_a.next(), chars_b.next()) {
            (None, None) => return Ordering::Equal,
            (x, y) if x != y => return x.cmp(&y),
            _ => (a, b) = (chars_a.as_str(), chars_b.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_count() {
        let mut names = ["a10", "b", "a9", "a", "a09"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "a9", "a09", "a10", "b"]);
    }
}
