//! The JSON that the plane stores: the inputs of its runs. Every shape has a version and one permanent fixture per
//! version. No face uses these types.

use landreeve_core::table::{Scalar, Variable};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredDataQuery {
    pub version: u32,
    pub sql: String,
    pub variables: Vec<(String, StoredVariable)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoredVariable {
    Null,
    One(StoredScalar),
    Many(Vec<StoredScalar>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoredScalar {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl From<&Scalar> for StoredScalar {
    fn from(scalar: &Scalar) -> StoredScalar {
        match scalar {
            Scalar::Boolean(value) => StoredScalar::Boolean(*value),
            Scalar::Integer(value) => StoredScalar::Integer(*value),
            Scalar::Float(value) => StoredScalar::Float(*value),
            Scalar::Text(text) => StoredScalar::Text(text.clone()),
            Scalar::Instant(micros) => {
                StoredScalar::Text(landreeve_core::clock::from_micros(*micros).to_string())
            }
        }
    }
}

impl From<StoredScalar> for Scalar {
    fn from(stored: StoredScalar) -> Scalar {
        match stored {
            StoredScalar::Boolean(value) => Scalar::Boolean(value),
            StoredScalar::Integer(value) => Scalar::Integer(value),
            StoredScalar::Float(value) => Scalar::Float(value),
            StoredScalar::Text(text) => Scalar::Text(text),
        }
    }
}

impl From<&Variable> for StoredVariable {
    fn from(variable: &Variable) -> StoredVariable {
        match variable {
            Variable::Null => StoredVariable::Null,
            Variable::One(value) => StoredVariable::One(value.into()),
            Variable::Many(values) => StoredVariable::Many(values.iter().map(StoredScalar::from).collect()),
        }
    }
}

impl From<StoredVariable> for Variable {
    fn from(stored: StoredVariable) -> Variable {
        match stored {
            StoredVariable::Null => Variable::Null,
            StoredVariable::One(value) => Variable::One(value.into()),
            StoredVariable::Many(values) => Variable::Many(values.into_iter().map(Scalar::from).collect()),
        }
    }
}

/// A hierarchy of teams to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHierarchy {
    pub version: u32,
    pub actor: String,
    pub teams: Vec<StoredTeam>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTeam {
    pub reference: String,
    pub name: String,
    pub lead: Option<String>,
    pub parent: Option<String>,
    pub members: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1 of each type, as first written. Never change a line; add new ones.
    const QUERY_V1: &str = r#"{"version":1,"sql":"select $a","variables":[["a",1],["b",["x",true]],["c",null],["d",1.5]],"reach":["/1/7/"]}"#;
    const QUERY_V2: &str = r#"{"version":2,"sql":"select $a","variables":[["a",1]]}"#;
    const HIERARCHY_V1: &str = r#"{"version":1,"actor":"ci","teams":[{"reference":"t","name":"Team","lead":null,"parent":null,"members":["a@example.com"]}]}"#;

    fn comes_back<T: Serialize + for<'a> Deserialize<'a>>(text: &str) {
        let stored: T = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), text);
    }

    #[test]
    fn old_versions_can_still_be_read() {
        // `estate::results` reads the caller's reach in version 1.
        assert!(serde_json::from_str::<StoredDataQuery>(QUERY_V1).is_ok());
        comes_back::<StoredDataQuery>(QUERY_V2);
        comes_back::<StoredHierarchy>(HIERARCHY_V1);
    }
}
