import '../ui/tokens.css';
import '../ui/base.css';
import '../ui/controls.css';
import { mount } from 'svelte';
import { readBoot } from '../core/src/boot';
import { addPageIcon } from '../ui/page_icon';
import { applyTheme, savedTheme } from '../ui/theme';
import App from './App.svelte';

addPageIcon();
applyTheme(savedTheme());
const boot = readBoot();
if (boot.me === null) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
else mount(App, { target: document.getElementById('app') ?? document.body, props: { me: boot.me, csrf: boot.csrf } });
