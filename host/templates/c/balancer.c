// A share of the clients goes to the endpoints labelled `track=canary`, everybody else by weight to the others.
//
// The setting `canary-share` says how many: a whole percentage, `10%` unless the Service has the annotation
// `pointsman.dev/balancer.canary-share`. A client that got a canary gets one again, since its address decides. Where one side has
// nobody to serve, the other side serves all.
//
// `wit/policy.wit` says when each function is called. What a function is given is its own, to be freed; what it returns is the
// host's. The C library is there but for input and output: a policy has neither.

#include <stdlib.h>
#include <string.h>

#include "bindings/balancer_component.h"

typedef balancer_component_string_t text_t;
typedef pointsman_policy_types_endpoint_t endpoint_t;

#define TEXT(literal) ((text_t){(uint8_t *)(literal), sizeof(literal) - 1})

static bool equal(text_t one, text_t other) {
  return one.len == other.len && memcmp(one.ptr, other.ptr, one.len) == 0;
}

static void *allocated(void *memory) {
  if (memory == NULL) abort();
  return memory;
}

// ---- Lifecycle

void exports_pointsman_policy_lifecycle_describe(exports_pointsman_policy_lifecycle_description_t *ret) {
  balancer_component_string_dup(&ret->name, "{{name}}");
  balancer_component_string_dup(&ret->version, "0.1.0");
  balancer_component_string_dup(&ret->summary, "{{summary}}");
}

bool exports_pointsman_policy_lifecycle_configure(
    exports_pointsman_policy_lifecycle_place_t *place, exports_pointsman_policy_lifecycle_node_t *node,
    exports_pointsman_policy_lifecycle_list_setting_t *settings, text_t *err) {
  (void)place, (void)err;
  exports_pointsman_policy_lifecycle_node_free(node);
  exports_pointsman_policy_lifecycle_list_setting_free(settings);
  return true;
}

// ---- The plan: this head, the canaries, then the stable endpoints

typedef struct {
  uint32_t canary_share; // in percent
  uint32_t canaries;
  uint32_t stable;
  uint32_t unused; // so that the entries are aligned
} head_t;

typedef struct {
  uint64_t sum; // of the weights of its group, up to and with this one
  uint32_t slot;
  uint32_t unused;
} entry_t;

// ---- Planner

// Up to 100, in percent; false where the text is something else.
static bool percentage(text_t text, uint32_t *share) {
  if (text.len < 2 || text.len > 4 || text.ptr[text.len - 1] != '%') return false;
  *share = 0;
  for (size_t i = 0; i + 1 < text.len; i++) {
    if (text.ptr[i] < '0' || text.ptr[i] > '9') return false;
    *share = *share * 10 + (uint32_t)(text.ptr[i] - '0');
  }
  return *share <= 100;
}

static void refuse(text_t given, text_t *err) {
  const text_t parts[] = {TEXT("canary-share is `"), given, TEXT("`; it must be a whole percentage from `0%` to `100%`")};
  err->len = parts[0].len + parts[1].len + parts[2].len;
  err->ptr = allocated(malloc(err->len));
  uint8_t *end = err->ptr;
  for (size_t i = 0; i < 3; i++) {
    memcpy(end, parts[i].ptr, parts[i].len);
    end += parts[i].len;
  }
}

static bool is_canary(const endpoint_t *endpoint) {
  for (size_t i = 0; i < endpoint->labels.len; i++) {
    const pointsman_policy_types_label_t *label = &endpoint->labels.ptr[i];
    if (equal(label->key, TEXT("track")) && equal(label->value, TEXT("canary"))) return true;
  }
  return false;
}

static bool has(const endpoint_t *endpoint, pointsman_policy_types_conditions_t conditions) {
  return (endpoint->conditions & conditions) == conditions;
}

// By key, so that a plan does not depend on who listed the endpoints.
static int by_key(const void *one, const void *other) {
  text_t a = (*(const endpoint_t *const *)one)->key, b = (*(const endpoint_t *const *)other)->key;
  int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
  return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

// Those that may be picked, sorted: the ready ones; where nobody is, those that still serve while they terminate.
static size_t available(const exports_pointsman_policy_balancer_list_endpoint_t *members, const endpoint_t **chosen) {
  const pointsman_policy_types_conditions_t wanted[] = {
      POINTSMAN_POLICY_TYPES_CONDITIONS_READY,
      POINTSMAN_POLICY_TYPES_CONDITIONS_SERVING | POINTSMAN_POLICY_TYPES_CONDITIONS_TERMINATING,
  };
  size_t count = 0;
  for (size_t round = 0; round < 2 && count == 0; round++) {
    for (size_t i = 0; i < members->len; i++) {
      const endpoint_t *endpoint = &members->ptr[i];
      if (endpoint->weight > 0 && has(endpoint, wanted[round])) chosen[count++] = endpoint;
    }
  }
  qsort(chosen, count, sizeof *chosen, by_key);
  return count;
}

static uint32_t write_group(const endpoint_t **chosen, size_t count, bool canaries, entry_t *entries) {
  uint64_t sum = 0;
  uint32_t written = 0;
  for (size_t i = 0; i < count; i++) {
    if (is_canary(chosen[i]) != canaries) continue;
    sum += chosen[i]->weight;
    entries[written++] = (entry_t){.sum = sum, .slot = chosen[i]->slot};
  }
  return written;
}

bool exports_pointsman_policy_balancer_plan(
    exports_pointsman_policy_balancer_service_port_t *port, exports_pointsman_policy_balancer_list_endpoint_t *members,
    balancer_component_list_u8_t *ret, text_t *err) {
  uint32_t share = 10;
  bool good = true;
  for (size_t i = 0; i < port->settings.len && good; i++) {
    const pointsman_policy_types_setting_t *setting = &port->settings.ptr[i];
    if (!equal(setting->key, TEXT("canary-share"))) continue;
    good = percentage(setting->value, &share);
    if (!good) refuse(setting->value, err);
  }
  if (good) {
    const endpoint_t **chosen = allocated(malloc((members->len + 1) * sizeof *chosen));
    size_t count = available(members, chosen);
    ret->len = sizeof(head_t) + count * sizeof(entry_t);
    ret->ptr = allocated(malloc(ret->len));
    entry_t *entries = (entry_t *)(ret->ptr + sizeof(head_t));
    uint32_t canaries = write_group(chosen, count, true, entries);
    uint32_t stable = write_group(chosen, count, false, entries + canaries);
    *(head_t *)ret->ptr = (head_t){.canary_share = share, .canaries = canaries, .stable = stable};
    free(chosen);
  }
  exports_pointsman_policy_balancer_service_port_free(port);
  exports_pointsman_policy_balancer_list_endpoint_free(members);
  return good;
}

// ---- Worker: the plans, by Service port and candidate set; both are small numbers, handed out from 0

typedef struct {
  head_t **sets;
  size_t len;
} service_t;

static service_t *services;
static size_t services_len;

// Makes room for `index` in an array of zeroed elements.
static void *grown(void *array, size_t *len, size_t index, size_t size) {
  if (index < *len) return array;
  array = allocated(realloc(array, (index + 1) * size));
  memset((uint8_t *)array + *len * size, 0, (index + 1 - *len) * size);
  *len = index + 1;
  return array;
}

void exports_pointsman_policy_balancer_adopt(
    exports_pointsman_policy_balancer_service_id_t service, uint32_t set, balancer_component_list_u8_t *data) {
  services = grown(services, &services_len, service, sizeof *services);
  service_t *entry = &services[service];
  entry->sets = grown(entry->sets, &entry->len, set, sizeof *entry->sets);
  free(entry->sets[set]);
  entry->sets[set] = (head_t *)data->ptr; // kept, so not freed here
}

static bool draw(const entry_t *entries, uint32_t len, uint64_t random, uint32_t *slot) {
  if (len == 0) return false;
  uint64_t point = random % entries[len - 1].sum;
  uint32_t low = 0, high = len - 1;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (entries[middle].sum > point) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  *slot = entries[low].slot;
  return true;
}

bool exports_pointsman_policy_balancer_pick(
    exports_pointsman_policy_balancer_connection_t *connection, uint32_t set, uint32_t *ret) {
  if (connection->service >= services_len || set >= services[connection->service].len) return false;
  const head_t *plan = services[connection->service].sets[set];
  if (plan == NULL) return false;
  const entry_t *canaries = (const entry_t *)(plan + 1), *stable = canaries + plan->canaries;
  uint64_t random = connection->random;
  bool canary_first = connection->client_hash % 100 < plan->canary_share;
  if (canary_first && draw(canaries, plan->canaries, random, ret)) return true;
  return draw(stable, plan->stable, random, ret) || draw(canaries, plan->canaries, random, ret);
}

void exports_pointsman_policy_balancer_forget(exports_pointsman_policy_balancer_service_id_t service) {
  if (service >= services_len) return;
  for (size_t set = 0; set < services[service].len; set++) free(services[service].sets[set]);
  free(services[service].sets);
  services[service] = (service_t){0};
}
