//! The functions that a statement can call, each with what it needs. A function that is not listed does not exist: its
//! time or memory grows with a number in the statement rather than with the data, or DataFusion has added it since.

use super::needs::{self, Estimate};

/// What a function needs, and whether the planner may replace its calls by simpler expressions.
pub struct Allowed {
    pub need: Estimate,
    pub simplified: bool,
}

/// Values of a fixed size.
const FIXED: &str = "abs acos acosh array_avg array_distance array_element array_empty array_has \
    array_length array_max array_min array_ndims array_position array_product array_sum arrow_typeof ascii asin asinh \
    at_time_zone atan atan2 atanh bit_length cardinality cbrt ceil character_length chr contains cos cosh cosine_distance \
    cot current_date current_time date_bin date_part date_trunc date_trunc_in degrees empty ends_with exp \
    file_row_index find_in_set floor from_unixtime gcd inner_product isnan iszero json_contains json_get_bool \
    json_get_float json_get_int json_length lcm ln log log10 log2 make_date make_time nanvl now octet_length pi power \
    radians random round signum sin sinh sqrt starts_with strpos tan tanh to_date to_local_time to_time to_timestamp \
    to_timestamp_micros to_timestamp_millis to_timestamp_nanos to_timestamp_seconds to_unixtime trunc version";
/// Values of a fixed size that are longer than a number.
const SHORT: &str = "to_hex uuid";
/// A part of the arguments, or all of them together.
const ONCE: &str = "array_any_value array_append array_compact array_concat array_distinct \
    array_pop_back array_pop_front array_prepend array_remove array_remove_all array_remove_n array_replace \
    array_replace_all array_replace_n array_reverse array_slice array_sort btrim coalesce decode flatten get_field \
    greatest least left ltrim map_keys map_values named_struct nullif nvl nvl2 overlay reverse right rtrim split_part \
    struct substr substr_index make_array";
/// Other letters or digits can be longer.
const FOUR_TIMES: &str = "encode initcap lower translate upper array_add array_normalize array_scale \
    array_subtract";
/// Several results for each element, or tables to look them up.
const EIGHT_TIMES: &str = "array_dims array_positions arrays_zip json_as_text json_from_scalar json_get json_get_array \
    json_get_json json_get_str json_object_keys json_union_to_text map map_entries map_extract array_union \
    array_intersect array_except";

/// The functions with needs of their own.
const OWN: &str = "array_has_all array_has_any array_to_string cast_to_type concat concat_ws \
    list_to_text lpad narrow_cast regexp_count regexp_instr regexp_like regexp_match regexp_replace repeat replace rpad \
    string_concat string_to_array text_like to_char try_cast_to_type";

/// What VQL's functions and operators become; a text cannot name them.
const VQL_FIXED: &str = "vql_abs vql_add vql_add_days vql_add_months vql_add_years vql_ceil vql_days_between vql_divide \
    vql_exp vql_floor vql_instr vql_ln vql_log vql_modulo vql_multiply vql_negate vql_power vql_round vql_sign vql_sqrt \
    vql_subtract vql_to_date vql_to_timestamp vql_trunc";
const VQL_ONCE: &str = "vql_concat vql_substr vql_substring vql_text";
#[cfg(test)]
const VQL_OWN: &str = "vql_format_date vql_like_pattern vql_number vql_single vql_whole";

/// The names of all functions that a statement can call, and of those that operators become.
pub fn names() -> impl Iterator<Item = &'static str> {
    [FIXED, SHORT, ONCE, FOUR_TIMES, EIGHT_TIMES, OWN].into_iter().flat_map(str::split_ascii_whitespace)
}

/// The names of the functions that VQL's functions and operators become.
#[cfg(test)]
fn vql_names() -> impl Iterator<Item = &'static str> {
    [VQL_FIXED, VQL_ONCE, VQL_OWN].into_iter().flat_map(str::split_ascii_whitespace)
}

/// `None`: a statement cannot call it.
pub fn allowed(name: &str) -> Option<Allowed> {
    let listed = |list: &str| list.split_ascii_whitespace().any(|known| known == name);
    let need: Estimate = match name {
        "concat" | "string_concat" => needs::sum,
        "concat_ws" => needs::concat_ws,
        "repeat" => needs::repeat,
        "lpad" | "rpad" => needs::pad,
        "replace" => needs::replace,
        "to_char" => needs::format,
        "string_to_array" => needs::split,
        "array_to_string" => needs::join,
        "array_has_all" | "array_has_any" => needs::pairs,
        "regexp_count" | "regexp_instr" | "regexp_like" => needs::regexp,
        "regexp_match" => needs::regexp_match,
        "regexp_replace" => needs::regexp_replace,
        "text_like" => needs::like,
        "vql_format_date" => needs::pattern,
        "vql_like_pattern" => needs::times::<2>,
        "vql_number" | "vql_single" | "vql_whole" => needs::number,
        "cast_to_type" | "list_to_text" | "try_cast_to_type" => needs::times::<24>,
        "narrow_cast" => needs::fixed,
        _ if listed(FIXED) || listed(VQL_FIXED) => needs::fixed,
        _ if listed(SHORT) => needs::short,
        _ if listed(ONCE) || listed(VQL_ONCE) => needs::times::<1>,
        _ if listed(FOUR_TIMES) => needs::times::<4>,
        _ if listed(EIGHT_TIMES) => needs::times::<8>,
        _ => return None,
    };
    // It would become an operator, which is not bounded.
    let simplified = name != "regexp_like";
    Some(Allowed { need, simplified })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_function_is_listed_once() {
        let mut seen = HashSet::new();
        for name in names().chain(vql_names()) {
            assert!(seen.insert(name), "{name} is listed twice");
            assert!(allowed(name).is_some(), "{name}");
        }
        for refused in ["levenshtein", "range", "array_repeat", "factorial", "nosuch"] {
            assert!(allowed(refused).is_none(), "{refused}");
        }
    }
}
