/** The shape of the sources: no circle of imports, no long module, and nothing looked up in an object by a name that is data. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";

const SRC = resolve(__dirname, "../src");
const files = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => join(SRC, name));
const short = (file: string): string => relative(SRC, file);

function importsOf(file: string): string[] {
  const found = ts.preProcessFile(readFileSync(file, "utf8")).importedFiles.map(({ fileName }) => fileName);
  return found.filter((name) => name.startsWith(".")).map((name) => `${resolve(dirname(file), name)}.ts`);
}

/** The first circle that is found, from a file back to itself. */
function circle(graph: Map<string, string[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const other of graph.get(file) ?? []) {
      const found = visit(other, [...path, file]);
      if (found) return found;
    }
    done.add(file);
    return undefined;
  };
  for (const file of graph.keys()) {
    const found = visit(file, []);
    if (found) return found;
  }
  return undefined;
}

test("imports go one way: widgets use the grid, the chart and the core, which know nothing of them", () => {
  const graph = new Map(files.map((file) => [short(file), importsOf(file).map(short)]));
  expect(circle(new Map([["a", ["b"]], ["b", ["c"]], ["c", ["b"]]]))).toEqual(["b", "c", "b"]);
  expect(circle(graph)).toBeUndefined();
  const rooms = new Map([["core", ["core"]], ["chart", ["chart", "core"]], ["grid", ["grid", "core"]], ["widgets", ["chart", "core", "grid"]]]);
  for (const [file, others] of graph) {
    for (const other of others) expect(rooms.get(dirname(file)), `${file} imports ${other}`).toContain(dirname(other));
  }
});

test("no module is longer than 450 lines", () => {
  const long = files.filter((file) => readFileSync(file, "utf8").split("\n").length > 450);
  expect(long.map(short)).toEqual([]);
});

test("no object is looked up by a text that is not known when this is compiled: data belongs into a Map", () => {
  const { options } = ts.parseJsonConfigFileContent(ts.readConfigFile(resolve(SRC, "../tsconfig.json"), ts.sys.readFile).config, ts.sys, resolve(SRC, ".."));
  const program = ts.createProgram(files, options);
  const checker = program.getTypeChecker();
  const found: string[] = [];
  const isName = (type: ts.Type): boolean => {
    if (type.isUnion()) return type.types.some(isName);
    return (type.flags & (ts.TypeFlags.String | ts.TypeFlags.TemplateLiteral | ts.TypeFlags.Any)) !== 0;
  };
  const visit = (node: ts.Node): void => {
    if (ts.isElementAccessExpression(node) && isName(checker.getTypeAtLocation(node.argumentExpression))) {
      const source = node.getSourceFile();
      found.push(`${short(source.fileName)}:${source.getLineAndCharacterOfPosition(node.pos).line + 1} ${node.getText()}`);
    }
    ts.forEachChild(node, visit);
  };
  for (const file of files) visit(program.getSourceFile(file)!);
  expect(found).toEqual([]);
}, 60_000);
