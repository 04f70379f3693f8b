// Shows openapi.json. Everything is put in as text, never as HTML.
"use strict";

const methods = ["get", "post", "put", "patch", "delete"];

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  for (const child of children) if (child !== undefined && child !== null) made.append(child);
  return made;
}

// "#/components/schemas/Job" of the document itself; other references stay names.
function resolved(document, value) {
  if (!value || typeof value.$ref !== "string" || !value.$ref.startsWith("#/")) return value;
  return value.$ref.slice(2).split("/").reduce((at, key) => at && at[key], document);
}

function nameOfSchema(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return "list of " + nameOfSchema(schema.items);
  return Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "";
}

function linkToSchema(schema) {
  const name = nameOfSchema(schema);
  if (!schema || !schema.$ref) return name;
  const inside = schema.$ref.startsWith("#/components/schemas/");
  return element("a", {href: inside ? "#schema-" + name : schema.$ref.split("#")[0]}, name);
}

function table(rows) {
  const body = element("tbody");
  for (const cells of rows) body.append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  return element("table", {}, body);
}

function properties(schema) {
  const required = schema.required || [];
  return table(Object.entries(schema.properties || {}).map(([name, property]) => [
    element("code", {}, name + (required.includes(name) ? " *" : "")),
    linkToSchema(property),
    property.description || "",
  ]));
}

function operation(document, path, method, spec) {
  const inside = element("div");
  if (spec.description) inside.append(element("p", {}, spec.description));
  const parameters = (spec.parameters || []).map((parameter) => resolved(document, parameter));
  if (parameters.length) {
    inside.append(element("b", {}, "Parameters"), table(parameters.map((parameter) => [
      element("code", {}, parameter.name), parameter.in, nameOfSchema(parameter.schema), parameter.description || "",
    ])));
  }
  const body = resolved(document, spec.requestBody);
  if (body) {
    inside.append(element("b", {}, "Body"));
    for (const [type, content] of Object.entries(body.content)) {
      inside.append(element("p", {}, element("code", {}, type), " ", linkToSchema(content.schema)));
      if (content.example) inside.append(element("pre", {}, JSON.stringify(content.example, null, 2)));
    }
  }
  inside.append(element("b", {}, "Answers"), table(Object.entries(spec.responses).map(([status, response]) => {
    const found = resolved(document, response);
    const schemas = Object.entries(found.content || {}).map(([type, content]) =>
      element("div", {}, element("code", {}, type), " ", linkToSchema(content.schema)));
    return [element("code", {}, status), found.description || "", element("div", {}, ...schemas)];
  })));
  return element("details", {},
    element("summary", {}, element("span", {class: "method " + method}, method.toUpperCase()), " ",
      element("code", {}, path), " ", element("span", {class: "dim"}, spec.summary || "")),
    inside);
}

async function show() {
  const answer = await fetch("openapi.json");
  const document_ = await answer.json();
  const at = (id) => document.getElementById(id);
  at("title").textContent = document_.info.title + " " + document_.info.version;
  at("description").textContent = document_.info.description || "";
  for (const tag of document_.tags || []) {
    const id = "tag-" + tag.name;
    at("contents").append(element("a", {href: "#" + id}, tag.name));
    at("operations").append(element("h2", {id}, tag.name), element("p", {}, tag.description || ""));
    for (const [path, item] of Object.entries(document_.paths)) {
      for (const method of methods) {
        const spec = item[method];
        if (spec && (spec.tags || []).includes(tag.name)) at("operations").append(operation(document_, path, method, spec));
      }
    }
  }
  for (const [name, schema] of Object.entries(document_.components.schemas)) {
    at("schemas").append(element("details", {id: "schema-" + name}, element("summary", {}, element("code", {}, name)),
      element("div", {}, element("p", {}, schema.description || ""), properties(schema))));
  }
}

show();
