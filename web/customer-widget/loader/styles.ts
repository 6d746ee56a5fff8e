/** The launcher and the panel around the iframe; the colours are those of ui/tokens.css. */
export const STYLES = `
:host{all:initial;font:15px/1.4 system-ui,"PingFang SC","Microsoft YaHei",sans-serif;--s:#fff;--t:#17202b;--b:#768394;--a:#0b6e75;--o:#fff;--c:#2457c5;--f:#0a5fd1}
@media(prefers-color-scheme:dark){:host([data-theme=auto]){--s:#161d26;--t:#e8edf3;--b:#718295;--a:#4fc3c8;--o:#06282a;--c:#7fa8ff;--f:#8ab4ff}}
:host([data-theme=dark]){--s:#161d26;--t:#e8edf3;--b:#718295;--a:#4fc3c8;--o:#06282a;--c:#7fa8ff;--f:#8ab4ff}
[hidden]{display:none!important}
button{position:fixed;inset-block-end:20px;inset-inline-end:20px;z-index:2147483000;display:flex;align-items:center;gap:8px;min-height:48px;padding:0 20px 0 16px;border:0;border-radius:24px;background:var(--a);color:var(--o);font:inherit;font-weight:600;line-height:1;cursor:pointer;box-shadow:0 4px 16px #0004}
button:focus-visible{outline:3px solid var(--f);outline-offset:3px}
button.busy{background:var(--c)}
svg{width:20px;height:20px;fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round}
.panel{position:fixed;inset-block-end:84px;inset-inline-end:20px;z-index:2147483000;inline-size:376px;block-size:min(620px,100vh - 104px);border:1px solid var(--b);border-radius:12px;overflow:hidden;background:var(--s);box-shadow:0 8px 32px #0005}
.fault{display:grid;place-content:center;justify-items:center;gap:16px;block-size:100%;padding:24px;color:var(--t);text-align:center;text-wrap:balance}
.fault button{position:static;padding:0 20px}
iframe{display:block;inline-size:100%;block-size:100%;border:0}
@media(max-width:480px){.panel{inset-inline:8px;inline-size:auto}}
`;
