//! Listings: rows with named members, shown as a table, as JSON, or through a template.

use super::table;
use super::template::{Data, Template};
use crate::error::Error;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One kind of listing: what its columns are called, and what is shown without `--format`.
pub(crate) struct Listing {
    /// Go's name of the row's type, which its errors mention.
    pub(crate) type_name: &'static str,
    /// Members and the headings of their columns.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// The template behind `table`.
    pub(crate) default: String,
    /// The template of `-q`.
    pub(crate) quiet: &'static str,
}

/// One row.
#[derive(Default)]
pub(crate) struct Row {
    members: BTreeMap<&'static str, Value>,
    labels: Option<BTreeMap<String, String>>,
}

impl Row {
    /// A row of members that are text.
    pub(crate) fn new<const N: usize>(members: [(&'static str, String); N]) -> Self {
        let members = members.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        Self { members, labels: None }
    }

    /// Labels that `.Label "key"` answers from.
    pub(crate) fn with_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = Some(labels);
        self
    }

    /// A member that is no text.
    pub(crate) fn with(mut self, name: &'static str, value: Value) -> Self {
        self.members.insert(name, value);
        self
    }

    /// The members by the alphabet, as Go lists a type's methods.
    fn value(&self) -> Value {
        Value::Object(self.members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }
}

/// How a listing is shown.
pub(crate) struct Format {
    template: Template,
    table: bool,
}

impl Listing {
    /// Chooses between `--format`, `-q` and the default of the user's configuration.
    pub(crate) fn format(&self, wanted: &str, quiet: bool) -> Result<Format, Error> {
        let wanted = if wanted.is_empty() { "table" } else { wanted };
        let (table, text) = match wanted.strip_prefix("table") {
            Some("") if quiet => (false, self.quiet.to_owned()),
            Some("") => (true, self.default.clone()),
            Some(rest) => (true, rest.trim().to_owned()),
            None if wanted == "json" => (false, "{{json .}}".to_owned()),
            None => (false, wanted.to_owned()),
        };
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let template =
            Template::parse(&text).map_err(|why| Error::plain(format!("failed to parse template: {why}")))?;
        Ok(Format { template, table })
    }

    /// The whole text of a listing.
    pub(crate) fn show(&self, format: &Format, rows: &[Row]) -> Result<String, Error> {
        let mut text = String::new();
        for row in rows {
            text.push_str(&self.line(format, row)?);
            text.push('\n');
        }
        if !format.table {
            return Ok(text);
        }
        Ok(table::align(&format!("{}\n{text}", self.heading(format)?)))
    }

    /// The text of one row, cells separated by tabs.
    pub(crate) fn line(&self, format: &Format, row: &Row) -> Result<String, Error> {
        let value = row.value();
        let data = Data::row(&value, row.labels.as_ref(), self.type_name);
        format.template.execute(&data).map_err(|why| Error::plain(format!("failed to execute template: {why}")))
    }

    /// The names of the columns, separated by tabs.
    fn heading(&self, format: &Format) -> Result<String, Error> {
        let names: Map<String, Value> =
            self.headings.iter().map(|(name, heading)| ((*name).to_owned(), Value::from(*heading))).collect();
        let value = Value::Object(names);
        format
            .template
            .execute(&Data::header(&value))
            .map_err(|why| Error::plain(format!("failed to execute template: {why}")))
    }
}
