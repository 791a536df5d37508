/* Returns whether a signal handler may allocate. It may if the signal interrupted the program or the recording library, but not if it
   interrupted the allocator or the loader, which are not reentrant. */
#include <link.h>
#include <string.h>
#include <ucontext.h>

enum { RANGES = 8 };

static struct range {
    unsigned long begin, end;
} ranges[RANGES];
static int range_count;

/* Notes the code ranges of the program and of the preloaded library. */
static int visit(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size, (void)data;
    int own = info->dlpi_name[0] == 0 || strstr(info->dlpi_name, "/fd/");
    for (int i = 0; own && i < info->dlpi_phnum && range_count < RANGES; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_X) {
            unsigned long begin = info->dlpi_addr + segment->p_vaddr;
            ranges[range_count++] = (struct range){begin, begin + segment->p_memsz};
        }
    }
    return 0;
}

static void find_ranges(void)
{
    dl_iterate_phdr(visit, NULL);
}

static int may_allocate(const void *context)
{
    unsigned long pc = (unsigned long)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int may = 0;
    for (int i = 0; i < range_count; i++) may |= ranges[i].begin <= pc && pc < ranges[i].end;
    return may;
}
