//! Properties: what is listed and what is sent, and the parameters of lists.

use landreeve_core::error::Faults;
use landreeve_core::{Input, Result};
use landreeve_http::body::{Field, NullIs, Rules, Unknown, json_array, read_object};
use landreeve_http::extract::Query;
use landreeve_promotion::properties::{NewProperty, Parent, Property, PropertyFilter};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The parameter for what a name begins with: a database or, for a Scheduler, a project.
pub const DATABASE: &str = "databaseName";
pub const PROJECT: &str = "projectName";

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PropertyBody {
    id: i64,
    name: String,
    /// A secret is shown as a text that begins with `lr1:` and stays the same until the value changes.
    value: String,
    /// `VDP` or `SCHEDULER`.
    property_type: &'static str,
    /// Id of the environment or cluster.
    parent_id: i64,
    /// A placeholder: a deployment that needs it is refused.
    undefined: bool,
}

impl From<Property> for PropertyBody {
    fn from(property: Property) -> PropertyBody {
        PropertyBody {
            id: property.id.0,
            name: property.name,
            value: property.value,
            property_type: match property.parent {
                Parent::Environment(_) => "VDP",
                Parent::Cluster(_) => "SCHEDULER",
            },
            parent_id: property.parent.id(),
            undefined: property.undefined,
        }
    }
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body, which is streamed")]
pub struct EnvironmentProperties {
    environment_properties: Vec<PropertyBody>,
}

/// The same list under both names.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body, which is streamed")]
pub struct ClusterProperties {
    cluster_properties: Vec<PropertyBody>,
    environment_properties: Vec<PropertyBody>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `read` parses it and collects all faults")]
pub struct PropertyInput {
    /// Without control characters; only once in a request.
    #[schema(min_length = 1, max_length = 500, example = "users.smadmin.PASSWORD.ALGORITHM")]
    name: String,
    /// At most 64 KiB; `null` is the same as empty. A text that begins with `lr1:` is accepted as it was shown.
    #[schema(required = true, max_length = 65536, example = "SHA512")]
    value: Option<String>,
    /// `true` needs an empty value, or none.
    undefined: Option<bool>,
}

const RULES: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };
/// Clients send back what they read.
const READ_ONLY: [&str; 3] = ["id", "propertyType", "parentId"];

/// Reads the properties of a request. Faults are named by position: `[3].name`.
pub fn read(bytes: &[u8]) -> Result<Input<Vec<NewProperty>>> {
    let mut faults = Faults::default();
    let items = json_array(bytes)?;
    let one = |(at, item): (usize, &Value)| read_one(item, &format!("[{at}]"), &mut faults);
    let wanted = items.iter().enumerate().map(one).collect();
    Ok(Input::new(wanted, faults).named(by_position))
}

/// `3.name` is `[3].name`.
fn by_position(field: &str) -> String {
    match field.split_once('.') {
        Some((at, member)) => format!("[{at}].{member}"),
        None => field.to_owned(),
    }
}

fn read_one(item: &Value, at: &str, faults: &mut Faults) -> NewProperty {
    let mut new = NewProperty::default();
    let Value::Object(object) = item else {
        faults.push(at, "type", "must be an object with name and value");
        return new;
    };
    let read = read_object(object, at, RULES, |fields| {
        fields.ignore(&READ_ONLY);
        new.name = fields.required("name", |field| field.text(0..=usize::MAX));
        new.undefined = fields.optional("undefined", Field::bool).value().unwrap_or(false);
        new.value = match fields.raw("value") {
            Some(Value::Null) => String::new(),
            None if new.undefined => String::new(),
            _ => fields.required("value", |field| field.text(0..=usize::MAX)),
        };
    });
    if let Err(error) = read {
        error.faults.into_iter().for_each(|fault| faults.add(fault));
    }
    new
}

/// Reads the parameters of a list. `database` is the name of the one for the database or project.
pub fn filter(query: &Query, database: &str) -> Result<PropertyFilter> {
    let mut faults = Faults::default();
    let known = ["propertyName", database, "elementType", "elementTypeName", "elementName"];
    query.unknown(&known).into_iter().for_each(|fault| faults.add(fault));
    faults.finish()?;
    let text = |name: &str| query.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(PropertyFilter {
        name: text("propertyName"),
        database: text(database),
        element_type: text("elementType"),
        element_type_name: text("elementTypeName"),
        element_name: text("elementName"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_by_position() {
        let body = br#"[{"name": "a", "value": "1", "id": 7, "propertyType": "VDP"}, 5, {"value": 1}, {"name": "b"},
            {"name": "c", "undefined": true}, {"name": "d", "value": null}, {"name": null, "value": "", "undefined": "x"}]"#;
        let input = read(body).unwrap();
        let names: Vec<_> = input.value().iter().map(|new| new.name.as_str()).collect();
        assert_eq!(names, ["a", "", "", "b", "c", "d", ""]);
        let checked = input.checked(|wanted, faults| {
            assert_eq!((wanted[0].value.as_str(), wanted[4].undefined), ("1", true));
            faults.push("0.name", "duplicate", "is given twice");
            faults.push("1.name", "length", "must not be empty");
        });
        let faults = checked.unwrap_err().faults;
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        let expected = ["[1]", "[2].name", "[2].value", "[3].value", "[6].name", "[6].undefined", "[0].name"];
        assert_eq!(fields, expected);
    }

    #[test]
    fn parameters_are_those_of_the_kind() {
        let query = Query::parse("databaseName=admin&elementType=&elementName=a+b%20c");
        let expected = PropertyFilter {
            database: Some("admin".to_owned()),
            element_name: Some("a b c".to_owned()),
            ..PropertyFilter::default()
        };
        assert_eq!(filter(&query, DATABASE).unwrap(), expected);
        let error = filter(&query, PROJECT).unwrap_err();
        assert_eq!(error.message, "databaseName is not a parameter of this request");
        assert!(filter(&Query::parse("PropertyName=x"), DATABASE).is_err(), "names are case-sensitive");
    }
}
