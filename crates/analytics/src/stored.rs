//! The JSON that the plane stores: the input and output of an execution, the settings of dashboards, reports and
//! filters. Every shape has a version and one permanent fixture per version. No face uses these types.

use serde::{Deserialize, Serialize};

use crate::lang::{InputParameters, Scalar};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredQuery {
    pub version: u32,
    pub datasource: i64,
    pub report: Option<i64>,
    /// Already expanded: parameters are literals.
    pub sql: String,
    /// The zone for displaying instants.
    pub zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoredScalar {
    Boolean(bool),
    Number(serde_json::Number),
    Text(String),
}

impl From<&Scalar> for StoredScalar {
    fn from(scalar: &Scalar) -> StoredScalar {
        match scalar {
            Scalar::Text(text) => StoredScalar::Text(text.clone()),
            Scalar::Boolean(value) => StoredScalar::Boolean(*value),
            // Numbers with more digits than our JSON numbers can represent are stored as text, which the language also
            // accepts as numbers.
            Scalar::Number(digits) => match serde_json::from_str::<serde_json::Number>(digits) {
                Ok(number) if number.to_string() == *digits => StoredScalar::Number(number),
                _ => StoredScalar::Text(digits.clone()),
            },
        }
    }
}

impl From<StoredScalar> for Scalar {
    fn from(stored: StoredScalar) -> Scalar {
        match stored {
            StoredScalar::Boolean(value) => Scalar::Boolean(value),
            StoredScalar::Number(number) => Scalar::Number(number.to_string()),
            StoredScalar::Text(text) => Scalar::Text(text),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredParameters {
    pub timerange: Option<String>,
    pub aggregation: Option<String>,
    pub tz: Option<String>,
    pub filters: Vec<(String, Vec<StoredScalar>)>,
}

impl From<&InputParameters> for StoredParameters {
    fn from(inputs: &InputParameters) -> StoredParameters {
        let values = |values: &Vec<Scalar>| values.iter().map(StoredScalar::from).collect();
        StoredParameters {
            timerange: inputs.timerange.clone(),
            aggregation: inputs.aggregation.clone(),
            tz: inputs.tz.clone(),
            filters: inputs.filters.iter().map(|(name, chosen)| (name.clone(), values(chosen))).collect(),
        }
    }
}

impl From<StoredParameters> for InputParameters {
    fn from(stored: StoredParameters) -> InputParameters {
        let filters = stored
            .filters
            .into_iter()
            .map(|(name, values)| (name, values.into_iter().map(Scalar::from).collect()))
            .collect();
        InputParameters {
            timerange: stored.timerange,
            aggregation: stored.aggregation,
            tz: stored.tz,
            filters,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredDashboard {
    pub version: u32,
    pub description: Option<String>,
    pub zone_rule: String,
    pub fixed_zone: Option<String>,
    pub allowed_zones: Vec<String>,
    pub parameters: StoredParameters,
    pub page_width: u32,
    pub layout: Vec<StoredBox>,
    pub color_scheme: String,
    pub apply_immediately: bool,
    pub aggregations: Vec<String>,
    pub filter_order: Vec<String>,
    pub hidden: Vec<String>,
    pub locked: bool,
    pub floating: bool,
    pub automatic_update: bool,
    pub thumbnail: bool,
    pub prewarm: bool,
    pub refresh_minutes: u32,
    pub refresh_anchor: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBox {
    pub kind: String,
    pub id: String,
    pub row: i64,
    pub column: i64,
    pub width: i64,
    pub height: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReport {
    pub version: u32,
    pub description: Option<String>,
    pub sql: String,
    pub chart_type: Option<String>,
    /// Any JSON object, stored as received.
    pub chart: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredFilter {
    pub version: u32,
    pub name: String,
    pub description: Option<String>,
    pub control: String,
    pub value_type: String,
    pub multiple: bool,
    pub source: Option<String>,
    pub sql: Option<String>,
    /// (value, label)
    pub options: Vec<(StoredScalar, Option<String>)>,
    pub default: Vec<StoredScalar>,
    /// `None`: all aggregations except `all_time`.
    pub aggregations: Option<Vec<String>>,
}

/// The last result of a drop-down's static SQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredOptions {
    pub version: u32,
    pub options: Vec<(StoredScalar, Option<String>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1 of each type, as first written. Never change a line; add new ones.
    const QUERY_V1: &str = r#"{"version":1,"datasource":3,"report":null,"sql":"select 1","zone":"UTC"}"#;
    const QUERY_V2: &str =
        r#"{"version":2,"datasource":3,"report":null,"sql":"select 1","zone":"UTC","reach":["/1/7/"]}"#;
    const QUERY_V3: &str = r#"{"version":3,"datasource":3,"report":null,"sql":"select 1","zone":"UTC"}"#;
    const FILTER_V1: &str = r#"{"version":1,"name":"Country","description":null,"control":"dropdown","value_type":"text","multiple":true,"source":"manual","sql":null,"options":[["DE","Germany"],["FR",null]],"default":["DE"],"aggregations":null}"#;
    const REPORT_V1: &str =
        r#"{"version":1,"description":null,"sql":"select 1","chart_type":"table","chart":{"a":[1,2]}}"#;
    const DASHBOARD_V1: &str = r#"{"version":1,"description":null,"zone_rule":"fixed","fixed_zone":"Europe/Berlin","allowed_zones":[],"parameters":{"timerange":"1~2","aggregation":"day","tz":null,"filters":[["country",["DE",1,true]]]},"page_width":1600,"layout":[{"kind":"report","id":"8","row":0,"column":0,"width":6,"height":4}],"color_scheme":"scheme_1","apply_immediately":true,"aggregations":["day"],"filter_order":[],"hidden":[],"locked":false,"floating":false,"automatic_update":true,"thumbnail":true,"prewarm":false,"refresh_minutes":1440,"refresh_anchor":"15:42"}"#;

    fn comes_back<T: Serialize + for<'a> Deserialize<'a>>(text: &str) {
        let stored: T = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), text);
    }

    #[test]
    fn old_versions_can_still_be_read() {
        comes_back::<StoredQuery>(QUERY_V1);
        // `estate::results` reads the caller's reach in version 2.
        assert!(serde_json::from_str::<StoredQuery>(QUERY_V2).is_ok());
        comes_back::<StoredQuery>(QUERY_V3);
        comes_back::<StoredFilter>(FILTER_V1);
        comes_back::<StoredReport>(REPORT_V1);
        comes_back::<StoredDashboard>(DASHBOARD_V1);
    }
}
