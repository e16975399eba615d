// Reads a JSON list of Prometheus' operator's resources; prints a list of what its schemas have against them.
import { readFileSync } from "node:fs";
import * as kinds from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const faults = [];
for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new kinds[resource.kind](resource).validate();
  } catch (error) {
    faults.push(`${resource.kind} ${resource.metadata?.name}: ${error.message}`);
  }
}
console.log(JSON.stringify(faults));
