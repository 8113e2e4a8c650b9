// What `pointsman policy build` has node run, in the project's folder: SOURCE WIT WORLD OUTPUT.
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [source, witPath, worldName, output] = process.argv.slice(1);
const { component } = await componentize(await readFile(source, 'utf8'), {
  sourceName: source,
  witPath,
  worldName,
  // Nothing of WASI is left: clocks, chance and output are not a policy's.
  disableFeatures: ['random', 'stdio', 'clocks', 'http', 'fetch-event'],
});
await writeFile(output, component);
