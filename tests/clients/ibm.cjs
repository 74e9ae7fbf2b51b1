module.exports = {
  extends: require("@ibm-cloud/openapi-ruleset"),
  rules: {
    // the house style of IBM's cloud, where the contract is another: lists are arrays, paths and members have the names that they have
    "ibm-no-array-responses": "off",
    "ibm-path-segment-casing-convention": "off",
    "ibm-property-casing-convention": "off",
    "ibm-no-consecutive-path-parameter-segments": "off",
    // a descending order is the column behind a minus, as in JSON:API
    "ibm-enum-casing-convention": "off",
    // it knows no format beyond those of OpenAPI 3.0, and not the type "null" of 3.1
    "ibm-schema-type-format": "off",
    // `errors` of a Problem is there only where fields are at fault
    "ibm-required-array-properties-in-response": "off",
    // the answer of /openapi.json is any OpenAPI document
    "ibm-accept-and-return-models": "off",
  },
};
