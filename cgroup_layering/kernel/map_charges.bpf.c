// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For each bpf map, a record of two 64-bit words in the host's byte order: the map's id, and the id of the cgroup that
 * its memory is charged to (the inode number of the cgroup's folder), 0 if it is charged to none.
 *
 * An iterator over all maps: Documentation/bpf/bpf_iterators.rst in the kernel's tree. The records hold no text, as a
 * format string would be a bpf map of its own among those that are counted.
 */

#include "charged.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_map {
	__u32 id;
	struct obj_cgroup *objcg;
};

/* Linux 5.11 to 5.19; libbpf leaves out what follows three underscores. */
struct bpf_map___before_objcg {
	struct mem_cgroup *memcg;
};

struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
};

#pragma clang attribute pop

static __always_inline struct mem_cgroup *charged_to(struct bpf_map *map)
{
	struct bpf_map___before_objcg *before = (void *)map;

	if (bpf_core_field_exists(map->objcg)) {
		struct obj_cgroup *objcg = map->objcg;

		return objcg ? objcg->memcg : 0;
	}
	/* A kernel without the memory controller has neither field. */
	if (bpf_core_field_exists(before->memcg))
		return before->memcg;
	return 0;
}

static __always_inline __u64 cgroup_id(struct mem_cgroup *memcg)
{
	struct cgroup *cgroup = memcg ? memcg->css.cgroup : 0;
	struct kernfs_node *kn = cgroup ? cgroup->kn : 0;

	return kn ? kn->id : 0;
}

SEC("iter/bpf_map")
int map_charges(struct bpf_iter__bpf_map *context)
{
	struct bpf_map *map = context->map;
	__u64 record[2];

	/* The iterator's last call is for no map. */
	if (!map)
		return 0;
	record[0] = map->id;
	record[1] = cgroup_id(charged_to(map));
	bpf_seq_write(context->meta->seq, record, sizeof(record));
	return 0;
}

/* The kernel lets only GPL-compatible programs use bpf_seq_write(); the LGPL's section 3 allows a copy under the GPL. */
char LICENSE[] SEC("license") = "GPL";
