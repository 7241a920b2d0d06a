// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For each open file of a task, a record (struct record) of what it is, how many of its pages are in memory, and which
 * cgroups are charged for them. An iterator over open files (Documentation/bpf/bpf_iterators.rst in the kernel's tree)
 * that looks into their page caches: a handle (O_PATH) is enough, nothing is mapped and nothing changes.
 *
 * It tells about small files on the usual file systems and passes over whatever is not simple, for which there is
 * charges/look.py: a page that moved meanwhile, one without an owner or with one that is going, more than two owners,
 * pages in swap.
 */

/* libbpf's headers want these from vmlinux.h or linux/types.h; the latter lies on a path that differs by processor. */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Only what is read, by name: libbpf finds the places in the running kernel's types (CO-RE). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	unsigned int flags;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
};

struct obj_cgroup {
	struct mem_cgroup *memcg;
};

/* Since Linux 7.1, where pages are charged through an obj_cgroup as other objects are. */
struct mem_cgroup_per_node {
	struct obj_cgroup *objcg;
};

struct folio {
	unsigned long memcg_data;
};

enum pageflags {
	PG_uptodate = 2,
};

struct xa_node {
	unsigned char shift;
	void *slots[64];
};

struct xarray {
	void *xa_head;
};

struct address_space {
	struct xarray i_pages;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct inode {
	__u16 i_mode;
	unsigned int i_flags;
	struct super_block *i_sb;
	struct address_space *i_mapping;
	unsigned long i_ino;
	__s64 i_size;
};

struct file {
	struct inode *f_inode;
};

struct task_struct;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* include/linux/fs.h, cgroup-defs.h, stat.h; XA_CHUNK_SIZE of xarray.h; magic.h */
#define S_DAX (1 << 13)
#define CSS_ONLINE (1 << 1)
#define S_IFMT 0170000
#define S_IFREG 0100000
#define SLOTS 64
#define EXT4_SUPER_MAGIC 0xef53
#define XFS_SUPER_MAGIC 0x58465342
#define TMPFS_MAGIC 0x01021994

/* As in file_walk.py. */
struct record {
	__u32 fd;
	__u32 passed_over;
	__u64 device; /* as the kernel has it: a minor number of 20 bits */
	__u64 inode;
	__u64 size;
	__u64 owners[2]; /* inode numbers of cgroups' folders, 0 for none */
	__u32 pages[2];
	__u32 resident;
	__u32 mode;
};

struct walk {
	struct record record;
	struct xa_node *node;
	__u64 magic;
	__u64 pages; /* that the file has */
	__u64 folio; /* that the page before belongs to, */
	__u64 owner; /* and who is charged for it */
	__u64 uptodate;
};

/* As page_cgroup_ino() in mm/memcontrol.c, but 0 for a cgroup that is going, whose parent pays. */
static __always_inline __u64 charged_to(__u64 data)
{
	struct mem_cgroup_per_node *since = 0;
	struct mem_cgroup *memcg = (void *)data;
	struct obj_cgroup *objcg = (void *)data;

	/* The low bits tell of something else than a page cache's page. */
	if (!data || data & 7)
		return 0;
	if (bpf_core_field_exists(since->objcg))
		memcg = BPF_CORE_READ(objcg, memcg);
	if (!memcg || !(BPF_CORE_READ(memcg, css.flags) & CSS_ONLINE))
		return 0;
	return BPF_CORE_READ(memcg, css.cgroup, kn, id);
}

/*
 * Counts the page that `slot` holds; out: whether that failed. A function of its own, as the kernel checks such a one
 * once and not at each call.
 */
__attribute__((noinline)) int count(struct walk *walk, __u64 entry, __u64 slot)
{
	struct folio *folio = (void *)entry;
	struct record *record;

	if (!walk)
		return 1;
	record = &walk->record;
	if (entry != walk->folio) {
		__u64 flags = 0, still = 0, data = BPF_CORE_READ(folio, memcg_data);

		/* They come first in a folio, as a number or as the one member of a struct. */
		bpf_probe_read_kernel(&flags, sizeof(flags), folio);
		walk->folio = entry;
		walk->uptodate = flags & 1ULL << bpf_core_enum_value(enum pageflags, PG_uptodate);
		walk->owner = charged_to(data);
		/* Its owner is believed only if the page was the file's before and after. */
		bpf_probe_read_kernel(&still, sizeof(still), (void *)slot);
		if (still != entry || BPF_CORE_READ(folio, memcg_data) != data)
			return 1;
	}
	if (!walk->uptodate)
		return 0;
	if (!walk->owner)
		return 1;
	record->resident++;
	if (!record->owners[0] || record->owners[0] == walk->owner) {
		record->owners[0] = walk->owner;
		record->pages[0]++;
		return 0;
	}
	if (!record->owners[1] || record->owners[1] == walk->owner) {
		record->owners[1] = walk->owner;
		record->pages[1]++;
		return 0;
	}
	return 1;
}

/* One slot of a node, for bpf_loop(); entries are told apart as in include/linux/xarray.h. */
static long step(__u32 index, void *context)
{
	struct walk *walk = context;
	struct xa_node *node = walk->node;
	const void *slots = __builtin_preserve_access_index(&node->slots[0]);
	const void *slot = slots + index * sizeof(void *);
	__u64 entry = 0;

	if (index >= walk->pages)
		return 1;
	if (bpf_probe_read_kernel(&entry, sizeof(entry), slot))
		goto pass_over;
	/* A further page of a folio names the slot of its first. */
	if ((entry & 3) == 2) {
		slot = slots + (entry >> 2) * sizeof(void *);
		if (entry >> 2 >= SLOTS || bpf_probe_read_kernel(&entry, sizeof(entry), slot) || (entry & 3) == 2)
			goto pass_over;
	}
	if (entry & 1 && walk->magic != TMPFS_MAGIC) /* was evicted; on tmpfs it is in swap */
		return 0;
	if (!entry)
		return 0;
	if (!(entry & 3) && !count(walk, entry, (__u64)slot))
		return 0;
pass_over:
	walk->record.passed_over = 1;
	return 1;
}

static __always_inline int is_known(struct walk *walk, struct inode *inode)
{
	if (inode->i_flags & S_DAX)
		return 0;
	return walk->magic == EXT4_SUPER_MAGIC || walk->magic == XFS_SUPER_MAGIC || walk->magic == TMPFS_MAGIC;
}

SEC("iter/task_file")
int file_charges(struct bpf_iter__task_file *context)
{
	struct walk walk = {};
	struct record *record = &walk.record;
	struct file *file = context->file;
	struct address_space *mapping;
	struct xa_node *node;
	struct inode *inode;
	const void *slot;
	__u64 head;

	/* The iterator's last call is for no file. */
	if (!file)
		return 0;
	inode = file->f_inode;
	record->fd = context->fd;
	record->mode = inode->i_mode;
	record->passed_over = 1;
	walk.magic = inode->i_sb->s_magic;
	if ((record->mode & S_IFMT) != S_IFREG || !is_known(&walk, inode))
		goto write;
	record->device = inode->i_sb->s_dev;
	record->inode = inode->i_ino;
	record->size = inode->i_size;
	walk.pages = (record->size + 4095) / 4096;
	mapping = BPF_CORE_READ(inode, i_mapping);
	head = (__u64)BPF_CORE_READ(mapping, i_pages.xa_head);
	if (!head || !walk.pages) {
		record->passed_over = 0;
	} else if (!(head & 3)) { /* the one page, without a node */
		slot = __builtin_preserve_access_index(&mapping->i_pages.xa_head);
		record->passed_over = count(&walk, head, (__u64)slot);
	} else if ((head & 3) == 2 && walk.pages <= SLOTS) {
		walk.node = node = (void *)(head - 2);
		record->passed_over = BPF_CORE_READ(node, shift) != 0;
		if (bpf_core_field_size(node->slots) != SLOTS * sizeof(void *))
			record->passed_over = 1;
		if (!record->passed_over)
			bpf_loop(SLOTS, step, &walk, 0);
	}
write:
	bpf_seq_write(context->meta->seq, record, sizeof(*record));
	return 0;
}

/* The kernel lets only GPL-compatible programs use bpf_seq_write(); the LGPL's section 3 allows a copy under the GPL. */
char LICENSE[] SEC("license") = "GPL";
