/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/context.S - save what a called function must preserve, change the stack, restore.
 *
 * void context_swap(void **out_sp, void *sp): the running context's stack pointer goes to *out_sp.
 * void context_begin(void): where the first switch to a new context returns to; context.c laid
 * the function and its argument into preserved registers.
 */

#if defined(__x86_64__)

    .text
    .globl context_swap
    .hidden context_swap
    .type context_swap, @function
    .p2align 4
context_swap:
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    pushq %r15
    .cfi_adjust_cfa_offset 8
    pushq %r14
    .cfi_adjust_cfa_offset 8
    pushq %r13
    .cfi_adjust_cfa_offset 8
    pushq %r12
    .cfi_adjust_cfa_offset 8
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    stmxcsr (%rsp)              /* rounding and exception masks are the callee's to preserve */
    fnstcw 4(%rsp)
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %r12
    .cfi_adjust_cfa_offset -8
    popq %r13
    .cfi_adjust_cfa_offset -8
    popq %r14
    .cfi_adjust_cfa_offset -8
    popq %r15
    .cfi_adjust_cfa_offset -8
    popq %rbx
    .cfi_adjust_cfa_offset -8
    popq %rbp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size context_swap, . - context_swap

    .globl context_begin
    .hidden context_begin
    .type context_begin, @function
    .p2align 4
context_begin:
    .cfi_startproc
    .cfi_undefined rip          /* the outermost frame: unwinders stop here */
    movq %r13, %rdi
    callq *%r12
    ud2
    .cfi_endproc
    .size context_begin, . - context_begin

#elif defined(__aarch64__)

    .text
    .globl context_swap
    .hidden context_swap
    .type context_swap, %function
    .p2align 4
context_swap:
    .cfi_startproc
    sub sp, sp, #160
    .cfi_adjust_cfa_offset 160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    .cfi_offset x29, -80
    .cfi_offset x30, -72
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    .cfi_adjust_cfa_offset -160
    ret
    .cfi_endproc
    .size context_swap, . - context_swap

    .globl context_begin
    .hidden context_begin
    .type context_begin, %function
    .p2align 4
context_begin:
    .cfi_startproc
    .cfi_undefined x30          /* the outermost frame: unwinders stop here */
    mov x0, x20
    blr x19
    brk #0
    .cfi_endproc
    .size context_begin, . - context_begin

#endif

    .section .note.GNU-stack, "", %progbits
