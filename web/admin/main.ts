import '../ui/tokens.css';
import '../ui/base.css';
import '../ui/controls.css';
import { mount } from 'svelte';
import { readBoot } from '../core/src/boot';
import { applyTheme, savedTheme } from '../ui/theme';
import { addPageIcon } from '../ui/page_icon';
import App from './App.svelte';

addPageIcon();
applyTheme(savedTheme());
const boot = readBoot();
if (boot.me === null) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
else mount(App, { target: document.getElementById('app') ?? document.body, props: { me: boot.me, csrf: boot.csrf } });
