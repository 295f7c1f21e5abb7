/**
 * The program of the main job of the demo, as it runs in tasks. `part` reads one part of the table of US flights and
 * sums the delays by hour of the day; `merge` adds up all parts, draws a chart into the home of the member and prints what each task did.
 */
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { initWasm, Resvg } from '@resvg/resvg-wasm';
import { parse, type Title, View } from 'vega';
import { type Column, formatTable } from '#cli/output/table.ts';

const table = '/flights/flights-200k.json';
const programFolder = '/flights/program';
const results = '/results';
/** No record of the table is longer. */
const recordBytesMax = 256;
/** Wide enough for screens of today. */
const pngWidth = 1600;
const hours = 24;
/** A flight is late, as airlines count it, from a quarter of an hour on. */
const lateMinutes = 15;

interface Flight {
  /** Minutes. */
  readonly delay: number;
  /** Hour of the day with its fraction. */
  readonly time: number;
}

/** What was found for one hour of the day. */
interface Hour {
  flights: number;
  delay: number;
  late: number;
}

/** What one task found, where and as whom. */
interface Part {
  readonly task: number;
  readonly site: string;
  readonly node: string;
  readonly user: string;
  readonly flights: number;
  readonly bytes: number;
  readonly cpuMs: number;
  readonly memoryMiB: number;
  readonly hours: Hour[];
}

/** A day of an airport begins at five. */
const clock = Array.from({ length: hours }, (_, at) => (at + 5) % hours);

const emptyHours = (): Hour[] => Array.from({ length: hours }, () => ({ flights: 0, delay: 0, late: 0 }));

/** The records whose first byte is in this part of the file. */
function readPart(index: number, count: number): { flights: Flight[]; bytes: number } {
  const file = openSync(table, 'r');
  try {
    const { size } = fstatSync(file);
    const [start, end] = [Math.floor((size * index) / count), Math.floor((size * (index + 1)) / count)];
    const buffer = Buffer.alloc(Math.min(size, end + recordBytesMax) - start);
    let filled = 0;
    while (filled < buffer.length) {
      const got = readSync(file, buffer, filled, buffer.length - filled, start + filled);
      if (got === 0) break;
      filled += got;
    }
    const text = buffer.toString('latin1', 0, filled);
    const flights: Flight[] = [];
    for (let at = text.indexOf('{'); at >= 0 && at < end - start; at = text.indexOf('{', at + 1)) {
      flights.push(JSON.parse(text.slice(at, text.indexOf('}', at) + 1)) as Flight);
    }
    return { flights, bytes: filled };
  } finally {
    closeSync(file);
  }
}

function environment(name: string): string {
  return process.env[`XTREEMOS_${name}`] ?? '';
}

function computePart(): void {
  const task = Number(environment('TASK_INDEX'));
  const { flights, bytes } = readPart(task, Number(environment('TASK_COUNT')));
  const byHour = emptyHours();
  for (const { delay, time } of flights) {
    const hour = byHour[Math.floor(time) % hours];
    if (hour === undefined) continue;
    hour.flights += 1;
    hour.delay += delay;
    hour.late += Number(delay >= lateMinutes);
  }
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  const part: Part = {
    task,
    site: environment('SITE'),
    node: environment('NODE'),
    user: userInfo().username,
    flights: flights.length,
    bytes,
    cpuMs: Math.round((userCPUTime + systemCPUTime) / 1000),
    memoryMiB: Math.round(maxRSS / 1024),
    hours: byHour,
  };
  writeWhole(results, `part-${task}.json`, JSON.stringify(part));
  console.log(`${flights.length} flights of ${bytes} bytes on ${part.node} as ${part.user}`);
}

/** A task that is started again must not leave half a file. */
function writeWhole(folder: string, name: string, content: string | Uint8Array): void {
  writeFileSync(`${folder}/.${name}`, content);
  renameSync(`${folder}/.${name}`, `${folder}/${name}`);
}

async function merge(): Promise<void> {
  const parts = readdirSync(results)
    .filter((name) => /^part-\d+\.json$/.test(name))
    .map((name) => JSON.parse(readFileSync(`${results}/${name}`, 'utf8')) as Part)
    .sort((a, b) => a.task - b.task);
  const total = emptyHours();
  for (const part of parts) {
    part.hours.forEach(({ flights, delay, late }, index) => {
      const hour = total[index];
      if (hour === undefined) return;
      hour.flights += flights;
      hour.delay += delay;
      hour.late += late;
    });
  }
  const svg = await draw(total);
  writeWhole(homedir(), 'delays.svg', svg);
  writeWhole(homedir(), 'delays.png', await rasterize(svg));
  console.log(formatTable(parts, columns, { isWide: false }));
}

async function draw(total: readonly Hour[]): Promise<string> {
  const values = total
    .map(({ flights, delay, late }, hour) => ({ hour, flights, delay: delay / flights, late: late / flights }))
    .filter(({ flights }) => flights > 0);
  const count = total.reduce((sum, { flights }) => sum + flights, 0);
  const view = new View(parse(chart(values, count)), { renderer: 'none' });
  return view.toSVG();
}

function chart(values: object[], count: number): Parameters<typeof parse>[0] {
  const font = 'DejaVu Sans, sans-serif';
  const title: Title = {
    text: 'Flights are later the later they leave',
    subtitle: [
      `Mean delay by hour of departure, ${count.toLocaleString('en')} US flights.`,
      `The colour is the share that was ${lateMinutes} minutes late or more.`,
    ],
    anchor: 'start',
    offset: 16,
  };
  return {
    width: 760,
    height: 360,
    padding: 16,
    background: 'white',
    title,
    config: {
      title: { font, fontSize: 18, subtitleFont: font, subtitleFontSize: 12, subtitlePadding: 6 },
      axis: { labelFont: font, titleFont: font, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 'normal' },
      legend: { labelFont: font, titleFont: font, titleFontWeight: 'normal' },
    },
    data: [{ name: 'hours', values }],
    scales: [
      { name: 'x', type: 'band', domain: clock, range: 'width', padding: 0.12 },
      { name: 'y', type: 'linear', domain: { data: 'hours', field: 'delay' }, nice: true, zero: true, range: 'height' },
      { name: 'late', type: 'linear', domain: { data: 'hours', field: 'late' }, range: { scheme: 'orangered' } },
    ],
    axes: [
      { orient: 'bottom', scale: 'x', title: 'hour of departure', labelAngle: 0 },
      { orient: 'left', scale: 'y', title: 'mean delay, minutes', grid: true, gridColor: '#ddd', domain: false },
    ],
    legends: [{ fill: 'late', title: 'late', format: '.0%', type: 'gradient' }],
    marks: [
      {
        type: 'rect',
        from: { data: 'hours' },
        encode: {
          enter: {
            x: { scale: 'x', field: 'hour' },
            width: { scale: 'x', band: 1 },
            y: { scale: 'y', field: 'delay' },
            y2: { scale: 'y', value: 0 },
            fill: { scale: 'late', field: 'late' },
          },
        },
      },
    ],
  };
}

async function rasterize(svg: string): Promise<Uint8Array> {
  await initWasm(readFileSync(`${programFolder}/resvg.wasm`));
  const fontBuffers = [new Uint8Array(readFileSync(`${programFolder}/DejaVuSans.ttf`))];
  const options = {
    fitTo: { mode: 'width', value: pngWidth },
    font: { fontBuffers, defaultFontFamily: 'DejaVu Sans' },
  };
  return new Resvg(svg, options as ConstructorParameters<typeof Resvg>[1]).render().asPng();
}

const columns: readonly Column<Part>[] = [
  { name: 'task', value: ({ task }) => task },
  { name: 'site', value: ({ site }) => site },
  { name: 'node', value: ({ node }) => node },
  { name: 'user', value: ({ user }) => user },
  { name: 'flights', value: ({ flights }) => flights.toLocaleString('en') },
  { name: 'cpu', value: ({ cpuMs }) => `${cpuMs} ms` },
  { name: 'memory', value: ({ memoryMiB }) => `${memoryMiB} MiB` },
];

if (process.argv[2] === 'merge') await merge();
else computePart();
