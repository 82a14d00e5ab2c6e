//! Columns as Go's `tabwriter` sets them: at least ten wide, three spaces apart, the last one free.

/// Docker's settings of the writer.
const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns lines whose cells are separated by tabs. A column reaches over adjacent lines that have it; every line ends in a newline.
pub(crate) fn align(text: &str) -> String {
    align_with(text, MIN_WIDTH, PADDING)
}

/// The same with other settings (`docker top` and `port` differ).
pub(crate) fn align_with(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len()]).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns.saturating_sub(1) {
        let mut line = 0;
        while line < lines.len() {
            // A cell ends with a tab, so the last one of a line belongs to no column.
            let has = |line: usize| lines.get(line).is_some_and(|cells| cells.len() > column + 1);
            let start = line;
            while has(line) {
                line += 1;
            }
            let block = start..line;
            let width = lines[block.clone()].iter().map(|cells| cells[column].chars().count() + padding).max();
            for row in block {
                widths[row][column] = width.unwrap_or(0).max(min_width);
            }
            line = line.max(start + 1);
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        assert_eq!(align("ID\tNAME\nx\ty\n"), "ID        NAME\nx         y\n");
        assert_eq!(align("CONTAINER ID\tB\tC\n1\t\tz\n"), "CONTAINER ID   B         C\n1                        z\n");
    }
}
