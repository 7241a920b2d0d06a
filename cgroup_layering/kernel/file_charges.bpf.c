// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For each open file of a task, a record (struct record) of what it is, how many of its pages are in memory, and which
 * cgroups are charged for them. An iterator over open files (Documentation/bpf/bpf_iterators.rst in the kernel's tree)
 * that looks into their page caches: nothing is mapped and nothing changes.
 *
 * Of a handle (O_PATH) it looks at the whole file, if that has no more than PIECE pages; of a file that is open for
 * reading at an odd place, at the PIECE pages from there on; no other file is looked at.
 *
 * It tells about the usual file systems and passes over whatever is not simple, for which there is charges/look.py: a
 * page that moved meanwhile, one without an owner or with one that is going, more than two owners, pages in swap.
 */

#include "charged.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

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
	unsigned int f_mode;
	__s64 f_pos;
	struct inode *f_inode;
};

struct task_struct;
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
#define FMODE_PATH (1 << 14)
#define SLOTS 64
#define PIECE 4096 /* pages: 16 MiB, a fraction of a millisecond; as in file_walk.py */
#define LEVELS 8 /* of the tree of a page cache: more than its largest index needs */
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
	__u64 head; /* of the tree */
	__u64 from; /* the first page of the piece */
	__u64 page; /* the first one of the node's, */
	__u64 end; /* and the one behind the last that is looked at */
	__u64 folio; /* that the page before belongs to, */
	__u64 data; /* what it says about its owner, */
	__u64 owner; /* and who that is */
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
 * Counts `pages` pages of the one folio that `slot` holds; out: whether that failed. A function of its own, as the kernel
 * checks such a one once and not at each call.
 */
__attribute__((noinline)) int count(struct walk *walk, __u64 entry, __u64 slot, __u32 pages)
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
		if (data != walk->data) {
			walk->data = data;
			walk->owner = charged_to(data);
		}
		/* Its owner is believed only if the page was the file's before and after. */
		bpf_probe_read_kernel(&still, sizeof(still), (void *)slot);
		if (still != entry || BPF_CORE_READ(folio, memcg_data) != data)
			return 1;
	}
	if (!walk->uptodate)
		return 0;
	if (!walk->owner)
		return 1;
	record->resident += pages;
	if (!record->owners[0] || record->owners[0] == walk->owner) {
		record->owners[0] = walk->owner;
		record->pages[0] += pages;
		return 0;
	}
	if (!record->owners[1] || record->owners[1] == walk->owner) {
		record->owners[1] = walk->owner;
		record->pages[1] += pages;
		return 0;
	}
	return 1;
}

/*
 * What slot `index` of a node holds, and where: a further part of a folio names the slot of its first. Entries are told
 * apart as in include/linux/xarray.h. Out: whether it can't be read.
 */
static __always_inline int read_slot(struct xa_node *node, __u64 index, __u64 *slot, __u64 *entry)
{
	const void *slots = __builtin_preserve_access_index(&node->slots[0]);

	*slot = (__u64)(slots + index * sizeof(void *));
	if (bpf_probe_read_kernel(entry, sizeof(*entry), (void *)*slot))
		return 1;
	if ((*entry & 3) != 2 || *entry >> 2 >= SLOTS)
		return 0;
	*slot = (__u64)(slots + (*entry >> 2) * sizeof(void *));
	return bpf_probe_read_kernel(entry, sizeof(*entry), (void *)*slot) != 0;
}

/* Whether an entry is that of a page that is not in memory; one that was evicted, but on tmpfs one that is in swap. */
static __always_inline int is_absent(struct walk *walk, __u64 entry)
{
	return !entry || (entry & 1 && walk->magic != TMPFS_MAGIC);
}

/* One slot of a node of the lowest level, for bpf_loop(). */
static long step(__u32 index, void *context)
{
	struct walk *walk = context;
	__u64 slot = 0, entry = 0;

	if (walk->page + index >= walk->end)
		return 1;
	if (!read_slot(walk->node, index, &slot, &entry)) {
		if (is_absent(walk, entry) || (!(entry & 3) && !count(walk, entry, slot, 1)))
			return 0;
	}
	walk->record.passed_over = 1;
	return 1;
}

/* The SLOTS pages that a node of the lowest level has or would have, for bpf_loop(). */
static long stretch(__u32 index, void *context)
{
	struct walk *walk = context;
	__u64 page = walk->from + (__u64)index * SLOTS, entry = walk->head, slot = 0, place;
	struct xa_node *node;
	__u32 pages = SLOTS;
	__u8 shift;
	int level;

	if (page >= walk->end)
		return 1;
	if (pages > walk->end - page)
		pages = walk->end - page;
	walk->page = page;
	for (level = 0; level < LEVELS; level++) {
		if ((entry & 3) != 2)
			break;
		node = (void *)(entry - 2);
		shift = BPF_CORE_READ(node, shift);
		place = page >> (shift & 63);
		if (!level && place >= SLOTS) /* behind all that is in the tree */
			return 1;
		if (!shift) {
			walk->node = node;
			bpf_loop(SLOTS, step, walk, 0);
			return walk->record.passed_over != 0;
		}
		if (read_slot(node, place & (SLOTS - 1), &slot, &entry))
			break;
	}
	/* Above the lowest level a slot has these pages at least, all of one folio. */
	if (is_absent(walk, entry) || (level && !(entry & 3) && !count(walk, entry, slot, pages)))
		return 0;
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
	struct xa_node *node = 0; /* only its type matters */
	struct inode *inode;
	const void *slot;
	__u64 pages;

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
	walk.end = pages = (record->size + 4095) / 4096;
	if (!(file->f_mode & FMODE_PATH)) {
		walk.from = (__u64)file->f_pos / 4096;
		if (!(file->f_pos & 1) || walk.from % SLOTS)
			goto write;
	}
	if (walk.end > walk.from + PIECE)
		walk.end = walk.from + PIECE;
	if (file->f_mode & FMODE_PATH && walk.end != pages)
		goto write;
	mapping = BPF_CORE_READ(inode, i_mapping);
	walk.head = (__u64)BPF_CORE_READ(mapping, i_pages.xa_head);
	if (bpf_core_field_size(node->slots) != SLOTS * sizeof(void *))
		goto write;
	record->passed_over = 0;
	if (!walk.head || walk.from >= walk.end)
		goto write;
	if (walk.head & 3) {
		bpf_loop(PIECE / SLOTS, stretch, &walk, 0);
	} else if (!walk.from) { /* the one page, without a node */
		slot = __builtin_preserve_access_index(&mapping->i_pages.xa_head);
		record->passed_over = count(&walk, walk.head, (__u64)slot, 1);
	}
write:
	bpf_seq_write(context->meta->seq, record, sizeof(*record));
	return 0;
}

/* The kernel lets only GPL-compatible programs use bpf_seq_write(); the LGPL's section 3 allows a copy under the GPL. */
char LICENSE[] SEC("license") = "GPL";
