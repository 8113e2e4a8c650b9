// A share of the clients goes to the endpoints labelled `track=canary`, everybody else by weight to the others.
//
// The setting `canary-share` says how many: a whole percentage, `10%` unless the Service has the annotation
// `pointsman.dev/balancer.canary-share`. A client that got a canary gets one again, since its address decides. Where one side has
// nobody to serve, the other side serves all.
//
// `wit/policy.wit` says when each function is called. Names are in camelCase here, and numbers of 64 bits are BigInts.

export const lifecycle = {
  describe() {
    return { name: '{{name}}', version: '0.1.0', summary: '{{summary}}' };
  },
  // To refuse, here and in `plan`: throw a string.
  configure(_place, _node, _settings) {},
};

// Worker: the plans, by Service port and candidate set.
const plans = new Map();

export const balancer = {
  plan(port, members) {
    const setting = port.settings.find(({ key }) => key === 'canary-share');
    const share = percentage(setting ? setting.value : '10%');
    // Sorted by key, so that a plan does not depend on who listed the endpoints.
    const eligible = available(members.filter(({ weight }) => weight > 0)).sort((a, b) => (a.key < b.key ? -1 : 1));
    const plan = { share, canaries: group(eligible.filter(isCanary)), stable: group(eligible.filter((it) => !isCanary(it))) };
    return new TextEncoder().encode(JSON.stringify(plan));
  },

  adopt(service, set, data) {
    if (!plans.has(service)) plans.set(service, new Map());
    const { share, canaries, stable } = JSON.parse(new TextDecoder().decode(data));
    plans.get(service).set(set, { share: BigInt(share), canaries: drawn(canaries), stable: drawn(stable) });
  },

  pick({ service, clientHash, random }, set) {
    const plan = plans.get(service)?.get(set);
    if (!plan) return undefined;
    const { share, canaries, stable } = plan;
    const [first, other] = clientHash % 100n < share ? [canaries, stable] : [stable, canaries];
    return draw(first, random) ?? draw(other, random);
  },

  forget(service) {
    plans.delete(service);
  },
};

// The ready ones; where nobody is, those that still serve while they terminate.
function available(members) {
  const ready = members.filter(({ conditions }) => conditions.ready);
  return ready.length > 0 ? ready : members.filter(({ conditions }) => conditions.serving && conditions.terminating);
}

function isCanary({ labels }) {
  return labels.some(({ key, value }) => key === 'track' && value === 'canary');
}

// Endpoints to draw from: each with the sum of the weights up to and with it.
function group(members) {
  let sum = 0;
  return members.map(({ weight, slot }) => [(sum += weight), slot]);
}

function drawn(entries) {
  return { entries, total: BigInt(entries.at(-1)?.[0] ?? 0) };
}

function draw({ entries, total }, random) {
  if (total === 0n) return undefined;
  const point = Number(random % total);
  let [low, high] = [0, entries.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle][0] > point) high = middle;
    else low = middle + 1;
  }
  return entries[low][1];
}

function percentage(text) {
  const share = /^[0-9]+%$/.test(text) ? Number(text.slice(0, -1)) : 101;
  if (share > 100) throw `canary-share is \`${text}\`; it must be a whole percentage from \`0%\` to \`100%\``;
  return share;
}
